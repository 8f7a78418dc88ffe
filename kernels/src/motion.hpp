// What both searches for motion share on FPGA cards. A block and all places that it may have come
// from are brought to local memory, the next ones while it is searched for.
#ifndef EDGESCALE_MOTION_HPP
#define EDGESCALE_MOTION_HPP

#include "numbers.hpp"

static const unsigned BLOCK = 16, RADIUS_MAX = 31;
static const unsigned WINDOW = BLOCK + 2 * RADIUS_MAX;

// A block of the picture, and how far it may go.
struct Place {
    int left, top, wide, high, first_x, first_y, last_x, last_y;

    Place(unsigned block, int width, int height, int radius)
    {
        int columns = (width + (int)BLOCK - 1) / (int)BLOCK;
        left = (int)block % columns * (int)BLOCK;
        top = (int)block / columns * (int)BLOCK;
        wide = least(BLOCK, width - left);
        high = least(BLOCK, height - top);
        first_x = -least(radius, left);
        first_y = -least(radius, top);
        last_x = least(radius, width - left - wide);
        last_y = least(radius, height - top - high);
    }

    static int least(int a, int b) { return a < b ? a : b; }
};

static inline unsigned blocks_of(unsigned width, unsigned height)
{
    return (width + BLOCK - 1) / BLOCK * ((height + BLOCK - 1) / BLOCK);
}

// The samples around each block, `radius` far; the block alone if that is zero.
static inline void read_places(const Word *from, Words &out, unsigned width, unsigned height,
                               unsigned stride, unsigned radius)
{
    for (unsigned block = 0; block < blocks_of(width, height); block++) {
        Place p(block, width, height, radius);
        unsigned first = (unsigned)(p.top + p.first_y) * stride + (unsigned)(p.left + p.first_x);
        read_rows(from, out, first, p.wide + p.last_x - p.first_x,
                  p.high + p.last_y - p.first_y, stride);
    }
}

// Rows of samples; any column of a row can be had at once.
template <unsigned SIDE> struct Samples {
    uchar at[SIDE][SIDE + NPC];

    void read(Words &in, unsigned bytes, unsigned rows)
    {
        for (unsigned y = 0; y < rows; y++) {
            for (unsigned g = 0; g < words(bytes); g++) {
#pragma HLS PIPELINE II = 1
                Word from = in.read();
                for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                    at[y][g * NPC + l] = lane(from, l);
                }
            }
        }
    }
};

// The best place so far: its cost, 8 bits of which are the way, and where it is.
struct Best {
    unsigned cost;
    int x, y;

    // Four bytes: the place, then the sum.
    unsigned record() const { return (x & 255) | (unsigned)(y & 255) << 8 | cost >> 8 << 16; }
};

struct Search {
    Samples<BLOCK> block;
    Samples<WINDOW> window;

    void read(Words &blocks, Words &windows, const Place &p)
    {
        block.read(blocks, p.wide, p.high);
        window.read(windows, p.wide + p.last_x - p.first_x, p.high + p.last_y - p.first_y);
    }

    // Replaces the best where the place (x, y) off the block's own is inside and better: the sum of
    // differences, then the way.
    void consider(const Place &p, int x, int y, Best &best) const
    {
        if (x < p.first_x || x > p.last_x || y < p.first_y || y > p.last_y)
            return;
        unsigned sum = 0;
        for (int row = 0; row < p.high; row++) {
#pragma HLS PIPELINE II = 1
            for (int i = 0; i < (int)BLOCK; i++) {
#pragma HLS UNROLL
                if (i >= p.wide)
                    continue;
                int d = block.at[row][i] - window.at[y - p.first_y + row][x - p.first_x + i];
                sum += d < 0 ? -d : d;
            }
        }
        unsigned cost = sum << 8 | (unsigned)((x < 0 ? -x : x) + (y < 0 ? -y : y));
        if (cost < best.cost) {
            Best better = {cost, x, y};
            best = better;
        }
    }
};

#endif
