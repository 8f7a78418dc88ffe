// The forms of scene.cl for FPGA cards: a group of samples every second clock.
#include "rows.hpp"

static const unsigned SIDE = 4, REGIONS = SIDE * SIDE, LEVELS = 8, BINS = 32;
static const unsigned WORDS = BINS + 1, RECORD = REGIONS * WORDS, RECORDS = 3;

// SIDE i / n, for i below n.
static inline unsigned region_of(unsigned i, unsigned n)
{
#pragma HLS INLINE
    return (SIDE * i >= n) + (SIDE * i >= 2 * n) + (SIDE * i >= 3 * n);
}

static void compare(Words &now, Words &before, unsigned *counts, unsigned width, unsigned height)
{
    // Each lane counts by itself, because two may want one bin.
    unsigned come[NPC][REGIONS * BINS], gone[NPC][REGIONS * BINS], sums[NPC][REGIONS];
    unsigned record[RECORD];
#pragma HLS ARRAY_PARTITION variable = come complete dim = 1
#pragma HLS ARRAY_PARTITION variable = gone complete dim = 1
#pragma HLS ARRAY_PARTITION variable = sums complete dim = 1
    for (unsigned i = 0; i < REGIONS * BINS; i++) {
#pragma HLS PIPELINE II = 1
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            come[l][i] = gone[l][i] = sums[l][i / BINS] = 0;
        }
    }
    for (unsigned y = 0; y < height; y++) {
        for (unsigned g = 0; g < words(width); g++) {
#pragma HLS PIPELINE II = 2
            Word from_now = now.read(), from_before = before.read();
            for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                unsigned x = g * NPC + l, p = lane(from_now, l), q = lane(from_before, l);
                if (x >= width)
                    continue;
                unsigned region = region_of(y, height) * SIDE + region_of(x, width);
                come[l][region * BINS + p / LEVELS]++;
                gone[l][region * BINS + q / LEVELS]++;
                sums[l][region] += p > q ? p - q : q - p;
            }
        }
    }
    for (unsigned i = 0; i < RECORD; i++) {
#pragma HLS PIPELINE II = 1
        record[i] = counts[i];
    }
    for (unsigned i = 0; i < RECORD; i++) {
#pragma HLS PIPELINE II = 1
        unsigned region = i / WORDS, bin = i % WORDS, sum = record[i];
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            sum += bin == BINS ? sums[l][region]
                               : come[l][region * BINS + bin] - gone[l][region * BINS + bin];
        }
        counts[i] = sum;
    }
}

extern "C" void scene(const Word *now, const Word *before, unsigned *counts, unsigned width,
                      unsigned height, unsigned now_stride, unsigned before_stride)
{
#pragma HLS INTERFACE m_axi port = now bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = before bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = counts bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = now_stride
#pragma HLS INTERFACE s_axilite port = before_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words from_now("from_now"), from_before("from_before");
#pragma HLS STREAM variable = from_now depth = 64
#pragma HLS STREAM variable = from_before depth = 64
    read_rows(now, from_now, 0, width, height, now_stride);
    read_rows(before, from_before, 0, width, height, before_stride);
    compare(from_now, from_before, counts, width, height);
}

extern "C" void scene_shift(const unsigned *before, unsigned *after)
{
#pragma HLS INTERFACE m_axi port = before bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = after bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = return
    for (unsigned i = 0; i < RECORD; i++) {
#pragma HLS PIPELINE II = 1
        after[i] = 0;
    }
    for (unsigned i = 0; i < (RECORDS - 1) * RECORD; i++) {
#pragma HLS PIPELINE II = 1
        after[RECORD + i] = before[i];
    }
}
