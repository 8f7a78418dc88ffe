// The form of absdiff.cl for FPGA cards.
#include "rows.hpp"

static void differences(Words &a, Words &b, Words &out, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        Word p = a.read(), q = b.read(), to = 0;
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            int d = (int)lane(p, l) - (int)lane(q, l);
            set_lane(to, l, (uchar)(d < 0 ? -d : d));
        }
        out.write(to);
    }
}

extern "C" void absdiff(const Word *a, const Word *b, Word *dst, unsigned width, unsigned height,
                        unsigned a_stride, unsigned b_stride, unsigned dst_stride)
{
#pragma HLS INTERFACE m_axi port = a bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = b bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = a_stride
#pragma HLS INTERFACE s_axilite port = b_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in_a("in_a"), in_b("in_b"), out("out");
#pragma HLS STREAM variable = in_a depth = 64
#pragma HLS STREAM variable = in_b depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(a, in_a, 0, width, height, a_stride);
    read_rows(b, in_b, 0, width, height, b_stride);
    differences(in_a, in_b, out, words(width) * height);
    write_rows(out, dst, 0, width, height, dst_stride);
}
