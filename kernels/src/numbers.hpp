// What HLS forms of kernels share that work on one number at a time, each clock.
#ifndef EDGESCALE_NUMBERS_HPP
#define EDGESCALE_NUMBERS_HPP

#include "rows.hpp"

static inline void read_numbers(const unsigned *from, Numbers &out, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        out.write(from[i]);
    }
}

static inline void write_numbers(Numbers &in, unsigned *to, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        to[i] = in.read();
    }
}

// The bytes of rows, each of which begins a word.
static inline void unpack_rows(Words &in, Numbers &out, unsigned bytes, unsigned rows)
{
    for (unsigned y = 0; y < rows; y++) {
        Word from = 0;
        for (unsigned x = 0; x < bytes; x++) {
#pragma HLS PIPELINE II = 1
            if (x % NPC == 0)
                from = in.read();
            out.write(lane(from, x % NPC));
        }
    }
}

#endif
