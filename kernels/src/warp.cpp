// The form of warp.cl for FPGA cards: a sample every four clocks. A row of the result comes from
// many rows of the source, so no lines are streamed: the result is made in tiles, and the part of
// the source that a tile comes from is first brought to block RAM. Where tiles come from, and their
// samples, go from one part to the next as streams.
#include <cstddef>

#include "rows.hpp"

static const unsigned TILE = 32, CHANNELS_MAX = 4;
// Pixels of the source to either side that are kept: a turned tile of half the size. Others are
// read where they are wanted.
static const unsigned BOX = 96;
static const unsigned BOX_WORDS = CHANNELS_MAX * BOX / NPC + 2;

struct Source {
    unsigned width, height, channels, offset, stride, fill;

    size_t place(unsigned x, unsigned y) const
    {
#pragma HLS INLINE
        return offset + (size_t)y * stride + (size_t)x * channels;
    }
};

// Pixels of the source, in words as they lie in memory.
struct Box {
    unsigned left, top, wide, high;
    Word data[BOX][BOX_WORDS];
};

// Whole numbers from the least to the largest.
struct Span {
    int least, most;
};

// The places, in pixels, that a tile comes from along one axis (x 0, y 1).
static Span span_of(const int columns[TILE][2], const int rows[TILE][2], unsigned wide,
                    unsigned high, unsigned axis)
{
    Span of_columns = {columns[0][axis], columns[0][axis]};
    Span of_rows = {rows[0][axis], rows[0][axis]};
    for (unsigned i = 0; i < TILE; i++) {
#pragma HLS PIPELINE II = 1
        int column = columns[i < wide ? i : 0][axis], row = rows[i < high ? i : 0][axis];
        of_columns.least = column < of_columns.least ? column : of_columns.least;
        of_columns.most = column > of_columns.most ? column : of_columns.most;
        of_rows.least = row < of_rows.least ? row : of_rows.least;
        of_rows.most = row > of_rows.most ? row : of_rows.most;
    }
    Span span = {(int)((unsigned)of_columns.least + (unsigned)of_rows.least) >> 10,
                 ((int)((unsigned)of_columns.most + (unsigned)of_rows.most) >> 10) + 1};
    return span;
}

// What of a span is inside a side of so many pixels, and in the box.
static void keep(Span span, unsigned side, unsigned &first, unsigned &count)
{
#pragma HLS INLINE
    int least = span.least > 0 ? span.least : 0;
    int most = span.most < (int)side ? span.most : (int)side - 1;
    unsigned inside = most < least ? 0 : (unsigned)(most - least) + 1;
    first = (unsigned)least;
    count = inside < BOX ? inside : BOX;
}

static void load(const Word *src, const Source &source, Box &box)
{
    for (unsigned y = 0; y < box.high && box.wide > 0; y++) {
        size_t first = source.place(box.left, box.top + y);
        size_t last = first + box.wide * source.channels - 1;
        unsigned count = (unsigned)(last / NPC - first / NPC) + 1;
        for (unsigned w = 0; w < count; w++) {
#pragma HLS PIPELINE II = 1
            box.data[y][w] = src[first / NPC + w];
        }
    }
}

static int sample(const Word *src, const Source &source, const Box &box, int x, int y,
                  unsigned channel)
{
#pragma HLS INLINE
    if (x < 0 || y < 0 || x >= (int)source.width || y >= (int)source.height)
        return source.fill >> 8 * channel & 255;
    size_t at = source.place(x, y) + channel;
    unsigned row = (unsigned)y - box.top;
    if (row < box.high && (unsigned)x - box.left < box.wide)
        return lane(box.data[row][at / NPC - source.place(box.left, y) / NPC], at % NPC);
    return lane(src[at / NPC], at % NPC);
}

static void tile(const int columns[TILE][2], const int rows[TILE][2], const Word *src,
                 const Source &source, const Box &box, hls::stream<uchar> &out, unsigned wide,
                 unsigned high)
{
    for (unsigned y = 0; y < high; y++) {
        for (unsigned i = 0; i < wide * source.channels; i++) {
#pragma HLS PIPELINE II = 4
            unsigned x = i / source.channels, channel = i % source.channels;
            int at_x = (int)((unsigned)columns[x][0] + (unsigned)rows[y][0]) >> 5;
            int at_y = (int)((unsigned)columns[x][1] + (unsigned)rows[y][1]) >> 5;
            int left = at_x >> 5, top = at_y >> 5, dx = at_x & 31, dy = at_y & 31;
            int upper = (32 - dx) * sample(src, source, box, left, top, channel) +
                        dx * sample(src, source, box, left + 1, top, channel);
            int lower = (32 - dx) * sample(src, source, box, left, top + 1, channel) +
                        dx * sample(src, source, box, left + 1, top + 1, channel);
            out.write((uchar)(((32 - dy) * upper + dy * lower + 512) >> 10));
        }
    }
}

static unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }

// Two numbers of each of `count` columns or rows.
static void send_places(const int *table, hls::stream<int> &out, unsigned count)
{
    for (unsigned i = 0; i < 2 * count; i++) {
#pragma HLS PIPELINE II = 1
        out.write(table[i]);
    }
}

static void take_places(hls::stream<int> &in, int to[TILE][2], unsigned count)
{
    for (unsigned i = 0; i < 2 * count; i++) {
#pragma HLS PIPELINE II = 1
        to[i / 2][i % 2] = in.read();
    }
}

// The rows of each line of tiles, then the columns of each of its tiles.
static void read_table(const int *table, hls::stream<int> &out, unsigned width, unsigned height)
{
    for (unsigned y = 0; y < height; y += TILE) {
        send_places(table + 2 * (width + y), out, least(height - y, TILE));
        for (unsigned x = 0; x < width; x += TILE)
            send_places(table + 2 * x, out, least(width - x, TILE));
    }
}

static void make(hls::stream<int> &places, const Word *src, hls::stream<uchar> &out,
                 unsigned width, unsigned height, Source source)
{
    int columns[TILE][2], rows[TILE][2];
    Box box;
    for (unsigned y = 0; y < height; y += TILE) {
        unsigned high = least(height - y, TILE);
        take_places(places, rows, high);
        for (unsigned x = 0; x < width; x += TILE) {
            unsigned wide = least(width - x, TILE);
            take_places(places, columns, wide);
            keep(span_of(columns, rows, wide, high, 0), source.width, box.left, box.wide);
            keep(span_of(columns, rows, wide, high, 1), source.height, box.top, box.high);
            load(src, source, box);
            tile(columns, rows, src, source, box, out, wide, high);
        }
    }
}

static void store(hls::stream<uchar> &in, ap_uint<8> *dst, unsigned width, unsigned height,
                  unsigned channels, unsigned offset, unsigned stride)
{
    for (unsigned y = 0; y < height; y += TILE) {
        for (unsigned x = 0; x < width; x += TILE) {
            unsigned samples = least(width - x, TILE) * channels;
            for (unsigned row = y; row < least(height, y + TILE); row++) {
                ap_uint<8> *to = dst + offset + (size_t)row * stride + (size_t)x * channels;
                for (unsigned i = 0; i < samples; i++) {
#pragma HLS PIPELINE II = 1
                    to[i] = in.read();
                }
            }
        }
    }
}

extern "C" void warp(const int *table, const Word *src, ap_uint<8> *dst, unsigned width,
                     unsigned height, unsigned channels, unsigned src_width, unsigned src_height,
                     unsigned src_offset, unsigned src_stride, unsigned dst_offset,
                     unsigned dst_stride, unsigned fill)
{
#pragma HLS INTERFACE m_axi port = table bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = channels
#pragma HLS INTERFACE s_axilite port = src_width
#pragma HLS INTERFACE s_axilite port = src_height
#pragma HLS INTERFACE s_axilite port = src_offset
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_offset
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = fill
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    hls::stream<int> places("places");
    hls::stream<uchar> out("out");
#pragma HLS STREAM variable = places depth = 256
#pragma HLS STREAM variable = out depth = 256
    Source source = {src_width, src_height, channels, src_offset, src_stride, fill};
    read_table(table, places, width, height);
    make(places, src, out, width, height, source);
    store(out, dst, width, height, channels, dst_offset, dst_stride);
}
