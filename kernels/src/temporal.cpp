// The form of temporal.cl for FPGA cards: half a group of samples each clock.
#include "rows.hpp"

// Bytes of the number of frames seen, in front of the samples.
static const unsigned HEAD = 4;

static void read_state(const Word *before, Numbers &seen, Words &out, unsigned bytes)
{
    seen.write(before[0].range(31, 0).to_uint());
    read_row(before, out, HEAD, 2 * bytes);
}

static void follow(Numbers &seen, Words &state, Words &in, Numbers &now_seen, Words &out,
                   unsigned bytes, unsigned base, unsigned slope)
{
    unsigned frames = seen.read();
    now_seen.write(frames == NONE ? frames : frames + 1);
    Word samples = 0;
    for (unsigned g = 0; g < words(2 * bytes); g++) {
#pragma HLS PIPELINE II = 1
        if (g % 2 == 0)
            samples = in.read();
        Word from = state.read(), to = 0;
        for (unsigned l = 0; l < NPC / 2; l++) {
#pragma HLS UNROLL
            int old = (int)from.range(16 * l + 15, 16 * l).to_uint();
            int target = lane(samples, g % 2 * (NPC / 2) + l) * 256 + 128, d = target - old;
            unsigned rate = base + slope * ((unsigned)(d < 0 ? -d : d) >> 8);
            rate = rate < 65536 ? rate : 65536;
            int next = old + ((d * (int)(rate >> 1)) >> 15);
            to.range(16 * l + 15, 16 * l) = (unsigned)(frames == 0 ? target : next) & 0xFFFF;
        }
        out.write(to);
    }
}

static void write_state(Numbers &seen, Words &in, Word *after, unsigned bytes)
{
    Words head("head");
#pragma HLS STREAM variable = head depth = 2
    head.write(Word(seen.read()));
    write_rows(head, after, 0, HEAD, 1, 0);
    write_rows(in, after, HEAD, 2 * bytes, 1, 0);
}

extern "C" void temporal(const Word *before, const Word *src, Word *after, unsigned bytes,
                         unsigned base, unsigned slope)
{
#pragma HLS INTERFACE m_axi port = before bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = after bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = bytes
#pragma HLS INTERFACE s_axilite port = base
#pragma HLS INTERFACE s_axilite port = slope
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words state("state"), in("in"), out("out");
    Numbers seen("seen"), now_seen("now_seen");
#pragma HLS STREAM variable = state depth = 64
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_state(before, seen, state, bytes);
    read_rows(src, in, 0, bytes, 1, 0);
    follow(seen, state, in, now_seen, out, bytes, base, slope);
    write_state(now_seen, out, after, bytes);
}
