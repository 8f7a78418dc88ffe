// The forms of regions.cl for FPGA cards: of a mosaic a sample for every 2 clocks to add up and one
// to write, of a cover a group each clock; only what rectangles touch is read.
#include "rows.hpp"

static const unsigned RECTS_MAX = 256;
static const unsigned CHANNELS_MAX = 4;
// Cells beside each other of which the sums are kept.
static const unsigned CELLS = 256;

// The samples of a plane from (left, top) up to (right, bottom); none where an end is not behind.
struct Area {
    unsigned left, top, right, bottom;

    bool is_empty() const { return left >= right || top >= bottom; }
};

static inline unsigned halved(unsigned long long at, unsigned halvings, unsigned side)
{
    unsigned long long place = (at + (1u << halvings) - 1) >> halvings;
    return place < side ? (unsigned)place : side;
}

// What rectangle i of a list covers of a plane.
static Area covered(const unsigned *rects, unsigned i, unsigned width, unsigned height,
                    unsigned halvings)
{
    unsigned long long x = rects[1 + 4 * i], y = rects[2 + 4 * i];
    unsigned wide = rects[3 + 4 * i], high = rects[4 + 4 * i];
    Area area = {halved(x, halvings, width), halved(y, halvings, height),
                 halved(x + wide, halvings, width), halved(y + high, halvings, height)};
    return area;
}

static unsigned load(const unsigned *rects, Area areas[RECTS_MAX], unsigned width,
                     unsigned height, unsigned halvings)
{
    unsigned count = rects[0] < RECTS_MAX ? rects[0] : RECTS_MAX;
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 4
        areas[i] = covered(rects, i, width, height, halvings);
    }
    return count;
}

// A place in a row of cells that moves on by a sample.
struct Place {
    unsigned cell, column, channel;

    void advance(unsigned side, unsigned channels)
    {
#pragma HLS INLINE
        bool is_pixel = channel + 1 == channels, is_cell = is_pixel && column + 1 == side;
        channel = is_pixel ? 0 : channel + 1;
        column = is_cell ? 0 : column + is_pixel;
        cell += is_cell;
    }
};

// Cells beside each other, the first with its corner at `at`, become their means.
static void average(ap_uint<8> *plane, unsigned at, unsigned stride, unsigned width,
                    unsigned height, unsigned side, unsigned channels)
{
    unsigned sums[CELLS][CHANNELS_MAX];
    unsigned cells = (width + side - 1) / side;
    for (unsigned i = 0; i < cells; i++) {
#pragma HLS PIPELINE II = 1
        for (unsigned channel = 0; channel < CHANNELS_MAX; channel++) {
#pragma HLS UNROLL
            sums[i][channel] = 0;
        }
    }
    for (unsigned y = 0; y < height; y++) {
        Place place = {0, 0, 0};
        for (unsigned i = 0; i < width * channels; i++) {
// A sum is read in one clock and written in the next.
#pragma HLS PIPELINE II = 2
            sums[place.cell][place.channel] += plane[at + y * stride + i].to_uint();
            place.advance(side, channels);
        }
    }
    for (unsigned i = 0; i < cells; i++) {
        unsigned columns = (i + 1) * side < width ? side : width - i * side;
        unsigned count = columns * height;
        for (unsigned channel = 0; channel < channels; channel++) {
#pragma HLS PIPELINE II = 1
            sums[i][channel] = (sums[i][channel] + count / 2) / count;
        }
    }
    for (unsigned y = 0; y < height; y++) {
        Place place = {0, 0, 0};
        for (unsigned i = 0; i < width * channels; i++) {
#pragma HLS PIPELINE II = 1
            plane[at + y * stride + i] = sums[place.cell][place.channel];
            place.advance(side, channels);
        }
    }
}

extern "C" void mosaic(const unsigned *rects, ap_uint<8> *plane, unsigned width, unsigned height,
                       unsigned channels, unsigned offset, unsigned stride, unsigned cell,
                       unsigned halvings)
{
#pragma HLS INTERFACE m_axi port = rects bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = plane bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = channels
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = cell
#pragma HLS INTERFACE s_axilite port = halvings
#pragma HLS INTERFACE s_axilite port = return
    Area areas[RECTS_MAX];
    bool is_touched[SIDE_MAX + 1];
    unsigned count = load(rects, areas, width, height, halvings);
    unsigned columns = (width + cell - 1) / cell;
    for (unsigned top = 0; top < height; top += cell) {
        unsigned bottom = height - top < cell ? height : top + cell;
        for (unsigned i = 0; i < columns; i++) {
#pragma HLS PIPELINE II = 1
            is_touched[i] = false;
        }
        for (unsigned r = 0; r < count; r++) {
            Area area = areas[r];
            if (area.is_empty() || area.top >= bottom || area.bottom <= top)
                continue;
            for (unsigned i = area.left / cell; i <= (area.right - 1) / cell; i++) {
#pragma HLS PIPELINE II = 1
                is_touched[i] = true;
            }
        }
        // Runs of touched cells, each read and written in bursts.
        unsigned first = 0;
        for (unsigned i = 0; i < columns; i++) {
            if (!is_touched[i]) {
                first = i + 1;
                continue;
            }
            if (i + 1 < columns && is_touched[i + 1] && i + 1 - first < CELLS)
                continue;
            unsigned left = first * cell, right = (i + 1) * cell < width ? (i + 1) * cell : width;
            average(plane, offset + top * stride + left * channels, stride, right - left,
                    bottom - top, cell, channels);
            first = i + 1;
        }
    }
}

static void copy(const Word *src, Word *plane, unsigned first, unsigned bytes, unsigned rows,
                 unsigned stride)
{
#pragma HLS DATAFLOW
    Words in("in");
#pragma HLS STREAM variable = in depth = 64
    read_rows(src, in, first, bytes, rows, stride);
    write_rows(in, plane, first, bytes, rows, stride);
}

extern "C" void cover(const unsigned *rects, const Word *src, Word *plane, unsigned width,
                      unsigned height, unsigned channels, unsigned offset, unsigned stride,
                      unsigned halvings)
{
#pragma HLS INTERFACE m_axi port = rects bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = plane bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = channels
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = halvings
#pragma HLS INTERFACE s_axilite port = return
    Area areas[RECTS_MAX];
    unsigned count = load(rects, areas, width, height, halvings);
    for (unsigned r = 0; r < count; r++) {
        Area area = areas[r];
        if (!area.is_empty())
            copy(src, plane, offset + area.top * stride + area.left * channels,
                 (area.right - area.left) * channels, area.bottom - area.top, stride);
    }
}
