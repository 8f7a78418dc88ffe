// The forms of levels.cl for FPGA cards.
#include "rows.hpp"

static const unsigned LEVELS = 256;

static void count(Words &in, unsigned *counts, unsigned width, unsigned height)
{
    // One set for each of a group's samples.
    unsigned banks[NPC][LEVELS], before[LEVELS];
#pragma HLS ARRAY_PARTITION variable = banks complete dim = 1
    for (unsigned level = 0; level < LEVELS; level++) {
#pragma HLS PIPELINE II = 1
        before[level] = counts[level];
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            banks[l][level] = 0;
        }
    }
    for (unsigned y = 0; y < height; y++) {
        for (unsigned g = 0; g < words(width); g++) {
// A count is read in one clock and written in the next.
#pragma HLS PIPELINE II = 2
            Word from = in.read();
            for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                if (g * NPC + l < width)
                    banks[l][lane(from, l)]++;
            }
        }
    }
    for (unsigned level = 0; level < LEVELS; level++) {
#pragma HLS PIPELINE II = 1
        unsigned sum = before[level];
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            sum += banks[l][level];
        }
        counts[level] = sum;
    }
}

extern "C" void histogram(const Word *src, unsigned *counts, unsigned width, unsigned height,
                          unsigned stride)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = counts bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in");
#pragma HLS STREAM variable = in depth = 64
    read_rows(src, in, 0, width, height, stride);
    count(in, counts, width, height);
}

static void equalise(const unsigned *counts, Numbers &out, unsigned pixels)
{
    unsigned kept[LEVELS], lowest = LEVELS - 1;
    bool is_found = false;
    for (unsigned level = 0; level < LEVELS; level++) {
#pragma HLS PIPELINE II = 1
        kept[level] = counts[level];
        if (!is_found && kept[level] != 0) {
            lowest = level;
            is_found = true;
        }
    }
    unsigned long long above = pixels - kept[lowest], sum = 0;
    for (unsigned level = 0; level < LEVELS; level++) {
#pragma HLS PIPELINE II = 1
        if (level > lowest)
            sum += kept[level];
        unsigned long long value = above ? (255 * sum + above / 2) / above : level;
        out.write(value < 255 ? (unsigned)value : 255);
    }
}

extern "C" void equaliser(const unsigned *counts, Word *table, unsigned pixels)
{
#pragma HLS INTERFACE m_axi port = counts bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = table bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = pixels
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Numbers levels("levels");
    Words out("out");
#pragma HLS STREAM variable = levels depth = 64
#pragma HLS STREAM variable = out depth = 64
    equalise(counts, levels, pixels);
    pack<1>(levels, out, LEVELS);
    write_rows(out, table, 0, LEVELS, 1, 0);
}

static void look_up(const Word *table, Words &in, Words &out, unsigned count)
{
    // One of each group's samples reads each copy.
    uchar copies[NPC][LEVELS];
#pragma HLS ARRAY_PARTITION variable = copies complete dim = 1
    for (unsigned i = 0; i < LEVELS / NPC; i++) {
#pragma HLS PIPELINE II = 8
        Word part = table[i];
        for (unsigned l = 0; l < NPC; l++) {
            for (unsigned copy = 0; copy < NPC; copy++) {
#pragma HLS UNROLL
                copies[copy][i * NPC + l] = lane(part, l);
            }
        }
    }
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        Word from = in.read(), to = 0;
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            set_lane(to, l, copies[l][lane(from, l)]);
        }
        out.write(to);
    }
}

extern "C" void lookup(const Word *table, const Word *src, Word *dst, unsigned width,
                       unsigned height, unsigned offset, unsigned src_stride, unsigned dst_stride)
{
#pragma HLS INTERFACE m_axi port = table bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, offset, width, height, src_stride);
    look_up(table, in, out, words(width) * height);
    write_rows(out, dst, offset, width, height, dst_stride);
}
