// The form of mog2.cl for FPGA cards: as many samples as fit five words, every five clocks, which
// is what memory gives.
#include "rows.hpp"

static const unsigned MODES = 3, NUMBERS = 3 * MODES + 1, RECORD_BYTES = 2 * NUMBERS;
static const unsigned ALL = 32768, BACKGROUND = ALL * 9 / 10;
static const unsigned GROUP_WORDS = 5, GROUP = GROUP_WORDS * NPC / RECORD_BYTES;
// Samples that are followed at a time, so that places in memory have 32 bits.
static const unsigned SLICE = 1 << 20;

struct Mode {
    unsigned weight, mean, variance;
};

// Ages the modes; the one that took the sample, or MODES.
static unsigned take(Mode modes[MODES], int target, unsigned rate, unsigned limit,
                     bool &is_background)
{
#pragma HLS INLINE
    unsigned prune = rate / 20, before = 0, taken = MODES;
    is_background = false;
    for (unsigned k = 0; k < MODES; k++) {
#pragma HLS UNROLL
        Mode &mode = modes[k];
        unsigned loss = (mode.weight * rate >> 15) + prune;
        unsigned aged = mode.weight > loss ? mode.weight - loss : 0;
        int d = target - (int)mode.mean, variance = (int)mode.variance;
        unsigned q = (unsigned)(d * d) >> 10;
        if (mode.weight > 0 && taken == MODES) {
            is_background |= before < BACKGROUND && q < limit * mode.variance;
            if (q < 9 * mode.variance) {
                taken = k;
                aged += rate;
                unsigned most = (rate << 15) / aged;
                int share = (int)(most < ALL ? most : ALL);
                mode.mean = (unsigned)((int)mode.mean + (d * share >> 15));
                variance += ((int)q - variance) * share >> 15;
                mode.variance = variance < 64 ? 64 : variance > 1200 ? 1200 : variance;
            }
        }
        mode.weight = aged < (prune > 1 ? prune : 1) ? 0 : aged;
        before += mode.weight;
    }
    return taken;
}

// Puts a new mode in the place of the lightest.
static unsigned begin(Mode modes[MODES], int target, unsigned rate)
{
#pragma HLS INLINE
    bool is_alone = modes[0].weight + modes[1].weight + modes[2].weight == 0;
    unsigned place = modes[0].weight == 0 ? 0 : modes[1].weight == 0 ? 1 : 2;
    modes[place].weight = is_alone ? ALL : rate;
    modes[place].mean = (unsigned)target;
    modes[place].variance = 240;
    return place;
}

// The state of a sample after it, as 16-bit numbers.
static void follow(unsigned state[NUMBERS], uchar sample, unsigned rate, unsigned limit)
{
#pragma HLS INLINE
    Mode modes[MODES];
#pragma HLS ARRAY_PARTITION variable = modes complete
    for (unsigned k = 0; k < MODES; k++) {
#pragma HLS UNROLL
        modes[k].weight = state[3 * k];
        modes[k].mean = state[3 * k + 1];
        modes[k].variance = state[3 * k + 2];
    }
    int target = sample * 128;
    bool is_background;
    unsigned taken = take(modes, target, rate, limit, is_background);
    if (taken == MODES)
        taken = begin(modes, target, rate);
    unsigned total = modes[0].weight + modes[1].weight + modes[2].weight;
    for (unsigned k = 0; k < MODES; k++) {
#pragma HLS UNROLL
        unsigned long long share = (unsigned long long)modes[k].weight * ALL;
        modes[k].weight = (unsigned)(share / (total > 1 ? total : 1));
    }
    for (unsigned k = MODES - 1; k > 0; k--) {
#pragma HLS UNROLL
        if (k <= taken && modes[k].weight > modes[k - 1].weight) {
            Mode lighter = modes[k - 1];
            modes[k - 1] = modes[k];
            modes[k] = lighter;
        }
    }
    for (unsigned k = 0; k < MODES; k++) {
#pragma HLS UNROLL
        state[3 * k] = modes[k].weight;
        state[3 * k + 1] = modes[k].mean;
        state[3 * k + 2] = modes[k].variance;
    }
    state[NUMBERS - 1] = is_background ? 0 : 255;
}

static void follow_all(Words &before, Words &src, Words &after, unsigned samples, unsigned rate,
                       unsigned limit)
{
    Word from = 0;
    for (unsigned at = 0; at < samples; at += GROUP) {
#pragma HLS PIPELINE II = 5
        Word group[GROUP_WORDS];
#pragma HLS ARRAY_PARTITION variable = group complete
        unsigned count = samples - at < GROUP ? samples - at : GROUP;
        unsigned used = words(count * RECORD_BYTES);
        if (at % NPC == 0)
            from = src.read();
        for (unsigned w = 0; w < GROUP_WORDS; w++) {
#pragma HLS UNROLL
            group[w] = 0;
            if (w < used)
                group[w] = before.read();
        }
        for (unsigned s = 0; s < GROUP; s++) {
#pragma HLS UNROLL
            unsigned state[NUMBERS];
#pragma HLS ARRAY_PARTITION variable = state complete
            for (unsigned i = 0; i < NUMBERS; i++) {
#pragma HLS UNROLL
                unsigned place = RECORD_BYTES * s + 2 * i, low = 8 * (place % NPC);
                state[i] = group[place / NPC].range(low + 15, low).to_uint();
            }
            follow(state, lane(from, at % NPC + s), rate, limit);
            for (unsigned i = 0; i < NUMBERS; i++) {
#pragma HLS UNROLL
                unsigned place = RECORD_BYTES * s + 2 * i, low = 8 * (place % NPC);
                group[place / NPC].range(low + 15, low) = state[i];
            }
        }
        for (unsigned w = 0; w < GROUP_WORDS; w++) {
#pragma HLS UNROLL
            if (w < used)
                after.write(group[w]);
        }
    }
}

static void follow_slice(const Word *before, const Word *src, Word *after, unsigned samples,
                         unsigned rate, unsigned limit)
{
#pragma HLS DATAFLOW
    Words states("states"), in("in"), out("out");
#pragma HLS STREAM variable = states depth = 64
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_row(before, states, 0, RECORD_BYTES * samples);
    read_row(src, in, 0, samples);
    follow_all(states, in, out, samples, rate, limit);
    write_rows(out, after, 0, RECORD_BYTES * samples, 1, 0);
}

extern "C" void mog2(const Word *before, const Word *src, Word *after, unsigned samples,
                     unsigned rate, unsigned limit)
{
#pragma HLS INTERFACE m_axi port = before bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = after bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = samples
#pragma HLS INTERFACE s_axilite port = rate
#pragma HLS INTERFACE s_axilite port = limit
#pragma HLS INTERFACE s_axilite port = return
    for (unsigned at = 0; at < samples; at += SLICE) {
        unsigned count = samples - at < SLICE ? samples - at : SLICE;
        unsigned place = at / GROUP * GROUP_WORDS;
        follow_slice(before + place, src + at / NPC, after + place, count, rate, limit);
    }
}
