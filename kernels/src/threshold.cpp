// The form of threshold.cl for FPGA cards.
#include "rows.hpp"

static void mask(Words &in, Words &out, unsigned count, unsigned level)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        Word from = in.read(), to = 0;
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            set_lane(to, l, lane(from, l) > level ? 255 : 0);
        }
        out.write(to);
    }
}

extern "C" void threshold(const Word *src, Word *dst, unsigned width, unsigned height,
                          unsigned src_stride, unsigned dst_stride, unsigned level)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = level
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, 0, width, height, src_stride);
    mask(in, out, words(width) * height, level);
    write_rows(out, dst, 0, width, height, dst_stride);
}
