// The form of mix.cl for FPGA cards.
#include "rows.hpp"

static void mixed(Words &a, Words &b, Words &out, unsigned count, int first, int second)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        Word p = a.read(), q = b.read(), to = 0;
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            set_lane(to, l, clamped((lane(p, l) * first + lane(q, l) * second + 128) >> 8));
        }
        out.write(to);
    }
}

extern "C" void mix_bytes(const Word *a, const Word *b, Word *dst, unsigned bytes, int first,
                          int second)
{
#pragma HLS INTERFACE m_axi port = a bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = b bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = bytes
#pragma HLS INTERFACE s_axilite port = first
#pragma HLS INTERFACE s_axilite port = second
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in_a("in_a"), in_b("in_b"), out("out");
#pragma HLS STREAM variable = in_a depth = 64
#pragma HLS STREAM variable = in_b depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(a, in_a, 0, bytes, 1, 0);
    read_rows(b, in_b, 0, bytes, 1, 0);
    mixed(in_a, in_b, out, words(bytes), first, second);
    write_rows(out, dst, 0, bytes, 1, 0);
}
