// The form of half.cl for FPGA cards.
#include "rows.hpp"

// A word of means from two words of each row; the last column counts twice where it has no pair.
static Word means(const Word upper[2], const Word lower[2], unsigned x, unsigned width)
{
#pragma HLS INLINE
    Word to = 0;
    for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
        unsigned i = 2 * l, j = x + i + 1 < width ? i + 1 : i;
        unsigned sum = lane_of_two(upper[0], upper[1], i) + lane_of_two(upper[0], upper[1], j) +
                       lane_of_two(lower[0], lower[1], i) + lane_of_two(lower[0], lower[1], j);
        set_lane(to, l, (uchar)((sum + 2) >> 2));
    }
    return to;
}

static void halve(Words &in, Words &out, unsigned width, unsigned height)
{
    Word line[SIDE_MAX / NPC + 1];
    unsigned given = words(width), made = words((width + 1) / 2);
    for (unsigned y = 0; y < height; y += 2) {
        for (unsigned g = 0; g < given; g++) {
#pragma HLS PIPELINE II = 1
            line[g] = in.read();
        }
        for (unsigned g = 0; g < made; g++) {
#pragma HLS PIPELINE II = 2
            Word upper[2], lower[2];
            for (unsigned i = 0; i < 2; i++) {
                unsigned at = 2 * g + i;
                upper[i] = at < given ? line[at] : Word(0);
                // The last row of an odd number counts twice.
                lower[i] = y + 1 < height && at < given ? in.read() : upper[i];
            }
            out.write(means(upper, lower, 2 * g * NPC, width));
        }
    }
}

extern "C" void half_size(const Word *src, Word *dst, unsigned width, unsigned height,
                          unsigned src_stride, unsigned dst_stride)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, 0, width, height, src_stride);
    halve(in, out, width, height);
    write_rows(out, dst, 0, (width + 1) / 2, (height + 1) / 2, dst_stride);
}
