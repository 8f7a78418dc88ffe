// What the HLS forms of filters over a square share: strips of pixels, small enough to be kept, and
// a window that moves over them by a sample each clock.
#ifndef EDGESCALE_WINDOW_HPP
#define EDGESCALE_WINDOW_HPP

#include "rows.hpp"

static const unsigned CHANNELS_MAX = 4;
// Pixels of a strip.
static const unsigned STRIP = 1024;

// Columns of a plane, with those beside them that their windows reach.
struct Strip {
    unsigned width, height, channels, side;
    // The columns of the result, and those that are read.
    unsigned at, count, first, given;

    Strip(unsigned width, unsigned height, unsigned channels, unsigned side, unsigned at)
        : width(width), height(height), channels(channels), side(side), at(at)
    {
        unsigned radius = side / 2;
        count = width - at < STRIP ? width - at : STRIP;
        first = at < radius ? 0 : at - radius;
        given = (width - at - count < radius ? width : at + count + radius) - first;
    }
    // Samples of a row, and those by which the window is ahead of the result.
    unsigned ahead() const { return side / 2 * 2 * channels; }
    unsigned steps() const { return count * channels + ahead(); }
};

// Samples below each other.
template <unsigned SIDE> struct Column {
    uchar at[SIDE];
};

// What lies past the edges: what mirrors them, or the last sample again.
enum Edges { MIRRORED, REPEATED };

template <Edges EDGES> static unsigned inside(int i, unsigned n)
{
#pragma HLS INLINE
    if (EDGES == MIRRORED)
        return (unsigned)mirrored(i, (int)n);
    return i < 0 ? 0 : i < (int)n ? (unsigned)i : n - 1;
}

// For each row of the result all columns that the window takes in, from the rows of a strip.
template <unsigned SIDE, Edges EDGES>
static void columns(Words &in, hls::stream<Column<SIDE> > &out, Strip strip)
{
    Word lines[SIDE][(STRIP + SIDE) * CHANNELS_MAX / NPC + 1];
#pragma HLS ARRAY_PARTITION variable = lines complete dim = 1
    unsigned radius = strip.side / 2, channels = strip.channels, come = 0;
    for (unsigned y = 0; y < strip.height; y++) {
        unsigned wanted = y + radius < strip.height ? y + radius + 1 : strip.height;
        for (; come < wanted; come++) {
            for (unsigned g = 0; g < words(strip.given * channels); g++) {
#pragma HLS PIPELINE II = 1
                lines[come % SIDE][g] = in.read();
            }
        }
        unsigned from[SIDE];
        for (unsigned i = 0; i < SIDE; i++)
            from[i] = inside<EDGES>((int)(y + i) - (int)radius, strip.height) % SIDE;
        int pixel = (int)strip.at - (int)radius;
        unsigned channel = 0;
        for (unsigned x = 0; x < strip.steps(); x++) {
#pragma HLS PIPELINE II = 1
            unsigned place = (inside<EDGES>(pixel, strip.width) - strip.first) * channels + channel;
            Column<SIDE> column;
            for (unsigned i = 0; i < SIDE; i++) {
#pragma HLS UNROLL
                column.at[i] = lane(lines[from[i]][place / NPC], place % NPC);
            }
            out.write(column);
            bool is_whole = channel + 1 == channels;
            channel = is_whole ? 0 : channel + 1;
            pixel += is_whole;
        }
    }
}

// The last columns, the newest first, in registers.
template <unsigned SIDE> struct Window {
    uchar at[SIDE][(SIDE - 1) * CHANNELS_MAX + 1];

    Window()
    {
#pragma HLS ARRAY_PARTITION variable = at complete dim = 0
        for (unsigned i = 0; i < SIDE; i++) {
#pragma HLS UNROLL
            for (unsigned age = 0; age <= (SIDE - 1) * CHANNELS_MAX; age++) {
#pragma HLS UNROLL
                at[i][age] = 0;
            }
        }
    }
    void shift(const Column<SIDE> &column)
    {
#pragma HLS INLINE
        for (unsigned i = 0; i < SIDE; i++) {
#pragma HLS UNROLL
            for (unsigned age = (SIDE - 1) * CHANNELS_MAX; age > 0; age--) {
#pragma HLS UNROLL
                at[i][age] = at[i][age - 1];
            }
            at[i][0] = column.at[i];
        }
    }
    // Row i from above, column j from the left, of a window of `side` samples a side.
    uchar tap(unsigned i, unsigned j, unsigned side, unsigned channels) const
    {
#pragma HLS INLINE
        return at[i][(side - 1 - j) * channels];
    }
};

#endif
