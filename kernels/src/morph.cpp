// The forms of morph.cl for FPGA cards: a group of samples for every 2 radius + 1 clocks.
#include "rows.hpp"

static const unsigned RADIUS_MAX = 31;
// Words before a row, so that what lies left of it has a place.
static const unsigned PAD = (RADIUS_MAX + NPC - 1) / NPC;
// The pass down goes over strips of this many bytes, so that few need to be kept.
static const unsigned STRIP = 1024;
static const unsigned LINES = 64;

static inline uchar better(uchar a, uchar b, unsigned largest)
{
#pragma HLS INLINE
    return (largest ? a > b : a < b) ? a : b;
}

static void across(Words &in, Words &out, unsigned width, unsigned height, unsigned radius,
                   unsigned largest)
{
    Word line[SIDE_MAX / NPC + 2 * PAD + 2];
    unsigned count = words(width);
    for (unsigned y = 0; y < height; y++) {
        for (unsigned g = 0; g < count; g++) {
#pragma HLS PIPELINE II = 1
            line[PAD + g] = in.read();
        }
        for (unsigned g = 0; g < count; g++) {
            Word best = line[PAD + g];
            for (int i = -(int)radius; i <= (int)radius; i++) {
#pragma HLS PIPELINE II = 1
                int at = (int)((PAD + g) * NPC) + i;
                Word first = line[at / (int)NPC], second = line[at / (int)NPC + 1];
                for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                    int x = (int)(g * NPC + l) + i;
                    uchar sample = lane_of_two(first, second, at % (int)NPC + l);
                    if (x >= 0 && x < (int)width)
                        set_lane(best, l, better(sample, lane(best, l), largest));
                }
            }
            out.write(best);
        }
    }
}

static void down(Words &in, Words &out, unsigned count, unsigned height, unsigned radius,
                 unsigned largest)
{
    Word lines[LINES][STRIP / NPC];
    for (unsigned y = 0; y < height + radius; y++) {
        // Row y comes in, row y - radius goes out.
        for (unsigned g = 0; g < count && y < height; g++) {
#pragma HLS PIPELINE II = 1
            lines[y % LINES][g] = in.read();
        }
        if (y < radius)
            continue;
        unsigned here = y - radius, first = here < radius ? 0 : here - radius;
        unsigned last = y < height ? y : height - 1;
        for (unsigned g = 0; g < count; g++) {
            Word best = lines[here % LINES][g];
            for (unsigned i = first; i <= last; i++) {
#pragma HLS PIPELINE II = 1
                Word row = lines[i % LINES][g];
                for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                    set_lane(best, l, better(lane(row, l), lane(best, l), largest));
                }
            }
            out.write(best);
        }
    }
}

static void down_strip(const Word *src, Word *dst, unsigned at, unsigned bytes, unsigned height,
                       unsigned src_stride, unsigned dst_stride, unsigned radius, unsigned largest)
{
#pragma HLS DATAFLOW
    Words in("in"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, at, bytes, height, src_stride);
    down(in, out, words(bytes), height, radius, largest);
    write_rows(out, dst, at, bytes, height, dst_stride);
}

extern "C" void morph_across(const Word *src, Word *dst, unsigned width, unsigned height,
                             unsigned src_stride, unsigned dst_stride, unsigned radius,
                             unsigned largest)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = radius
#pragma HLS INTERFACE s_axilite port = largest
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, 0, width, height, src_stride);
    across(in, out, width, height, radius, largest);
    write_rows(out, dst, 0, width, height, dst_stride);
}

extern "C" void morph_down(const Word *src, Word *dst, unsigned width, unsigned height,
                           unsigned src_stride, unsigned dst_stride, unsigned radius,
                           unsigned largest)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = radius
#pragma HLS INTERFACE s_axilite port = largest
#pragma HLS INTERFACE s_axilite port = return
    for (unsigned at = 0; at < width; at += STRIP) {
        unsigned bytes = width - at < STRIP ? width - at : STRIP;
        down_strip(src, dst, at, bytes, height, src_stride, dst_stride, radius, largest);
    }
}
