// The form of gray.cl for FPGA cards.
#include "rows.hpp"

static void expand(Words &in, Words &out, unsigned count, unsigned limited)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        Word from = in.read(), to = 0;
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            unsigned y = lane(from, l), above = (y < 16 ? 16 : y > 235 ? 235 : y) - 16;
            set_lane(to, l, (uchar)(limited ? (above * 255 + 109) / 219 : y));
        }
        out.write(to);
    }
}

extern "C" void gray(const Word *src, Word *dst, unsigned width, unsigned height,
                     unsigned src_stride, unsigned dst_stride, unsigned limited)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = limited
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, 0, width, height, src_stride);
    expand(in, out, words(width) * height, limited);
    write_rows(out, dst, 0, width, height, dst_stride);
}
