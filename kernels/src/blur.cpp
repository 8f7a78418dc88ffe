// The forms of blur.cl for FPGA cards: a sample for every `taps` clocks.
#include "numbers.hpp"

static const unsigned TAPS_MAX = 255;
static const unsigned CHANNELS_MAX = 4;
// The pass down goes over strips of this many samples, so that few need to be kept.
static const unsigned STRIP = 1024;
static const unsigned LINES = 256;

static void across(const unsigned *weights, Words &in, Numbers &out, unsigned width,
                   unsigned height, unsigned channels, unsigned taps, unsigned step)
{
    unsigned factors[TAPS_MAX];
    uchar line[CHANNELS_MAX * SIDE_MAX + NPC];
    for (unsigned i = 0; i < taps; i++) {
#pragma HLS PIPELINE II = 1
        factors[i] = weights[i];
    }
    unsigned kept = (width + step - 1) / step;
    for (unsigned y = 0; y < height; y++) {
        for (unsigned g = 0; g < words(width * channels); g++) {
            Word from = in.read();
            for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                line[g * NPC + l] = lane(from, l);
            }
        }
        for (unsigned x = 0; x < kept * channels; x++) {
            int pixel = (int)(x / channels * step - taps / 2);
            unsigned channel = x % channels, sum = 0;
            for (unsigned i = 0; i < taps; i++) {
#pragma HLS PIPELINE II = 1
                sum += factors[i] *
                       line[(unsigned)mirrored(pixel + (int)i, (int)width) * channels + channel];
            }
            out.write(sum & 0xFFFF);
        }
    }
}

static void down(const unsigned *weights, Words &in, Numbers &out, unsigned samples,
                 unsigned height, unsigned taps, unsigned step)
{
    unsigned factors[TAPS_MAX], total = 0;
    unsigned short lines[LINES][STRIP + NPC];
    for (unsigned i = 0; i < taps; i++) {
#pragma HLS PIPELINE II = 1
        factors[i] = weights[i];
        total += factors[i];
    }
    unsigned whole = total * total > 1 ? total * total : 1, come = 0;
    for (unsigned y = 0; y < height; y += step) {
        // All rows that row y wants, of which at most 255 are kept.
        unsigned wanted = y + taps / 2 < height ? y + taps / 2 + 1 : height;
        for (; come < wanted; come++) {
            for (unsigned g = 0; g < words(2 * samples); g++) {
                Word from = in.read();
                for (unsigned l = 0; l < NPC / 2; l++) {
#pragma HLS UNROLL
                    lines[come % LINES][g * (NPC / 2) + l] =
                        (unsigned short)from.range(16 * l + 15, 16 * l).to_uint();
                }
            }
        }
        for (unsigned x = 0; x < samples; x++) {
            unsigned sum = whole / 2;
            for (unsigned i = 0; i < taps; i++) {
#pragma HLS PIPELINE II = 1
                int row = mirrored((int)(y + i) - (int)(taps / 2), (int)height);
                sum += factors[i] * lines[(unsigned)row % LINES][x];
            }
            unsigned value = whole == 65536 ? sum >> 16 : sum / whole;
            out.write(value < 255 ? value : 255);
        }
    }
}

static void down_strip(const unsigned *weights, const Word *src, Word *dst, unsigned at,
                       unsigned samples, unsigned row, unsigned height, unsigned offset,
                       unsigned stride, unsigned taps, unsigned step)
{
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    Numbers sums("sums");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = sums depth = 64
#pragma HLS STREAM variable = out depth = 64
    // Rows behind the last that is wanted do not come: who reads none of them would be waited for.
    unsigned rows = (height + step - 1) / step, wanted = (rows - 1) * step + taps / 2 + 1;
    read_rows(src, in, 2 * at, 2 * samples, wanted < height ? wanted : height, 2 * row);
    down(weights, in, sums, samples, height, taps, step);
    pack_rows(sums, out, samples, rows);
    write_rows(out, dst, offset + at, samples, rows, stride);
}

extern "C" void blur_across(const unsigned *weights, const Word *src, Word *dst, unsigned width,
                            unsigned height, unsigned channels, unsigned offset, unsigned stride,
                            unsigned taps, unsigned step)
{
#pragma HLS INTERFACE m_axi port = weights bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = channels
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = taps
#pragma HLS INTERFACE s_axilite port = step
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    Numbers sums("sums");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = sums depth = 64
#pragma HLS STREAM variable = out depth = 64
    unsigned count = (width + step - 1) / step * channels * height;
    read_rows(src, in, offset, width * channels, height, stride);
    across(weights, in, sums, width, height, channels, taps, step);
    pack<2>(sums, out, count);
    write_rows(out, dst, 0, 2 * count, 1, 0);
}

extern "C" void blur_down(const unsigned *weights, const Word *src, Word *dst, unsigned width,
                          unsigned height, unsigned channels, unsigned offset, unsigned stride,
                          unsigned taps, unsigned step)
{
#pragma HLS INTERFACE m_axi port = weights bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = channels
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = taps
#pragma HLS INTERFACE s_axilite port = step
#pragma HLS INTERFACE s_axilite port = return
    unsigned row = width * channels;
    for (unsigned at = 0; at < row; at += STRIP) {
        unsigned samples = row - at < STRIP ? row - at : STRIP;
        down_strip(weights, src, dst, at, samples, row, height, offset, stride, taps, step);
    }
}
