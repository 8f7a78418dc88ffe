// The form of lookup in levels.cl for FPGA cards.
#include "rows.hpp"

static void look_up(const Word *table, Words &in, Words &out, unsigned count)
{
    // One of each group's samples reads each copy.
    uchar copies[NPC][256];
#pragma HLS ARRAY_PARTITION variable = copies complete dim = 1
    for (unsigned i = 0; i < 256 / NPC; i++) {
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
