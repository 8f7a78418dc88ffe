// The forms of resize.cl for FPGA cards: down, a group of samples of one tap each clock; across, a
// pixel for every `taps` clocks.
#include "rows.hpp"

static const unsigned TAPS_MAX = 512;
static const unsigned CHANNELS_MAX = 4;
// Samples, or columns, that are worked on together, and the weights that are kept for them.
static const unsigned STRIP = 1024;
static const unsigned WEIGHTS = 16384;

static inline unsigned nearest(int i, unsigned n)
{
    return i < 0 ? 0 : i < (int)n ? (unsigned)i : n - 1;
}

// The rows that each row of the result takes, each with its weight. A row comes anew, in a burst,
// as often as it is wanted: 512 of them would not fit, and any table may ask for any rows.
static void read_taps(const int *table, const Word *src, Numbers &weights, Words &out,
                      unsigned first, unsigned samples, unsigned height, unsigned stride,
                      unsigned dst_height, unsigned taps)
{
    int entry[TAPS_MAX + 1];
    for (unsigned y = 0; y < dst_height; y++) {
        for (unsigned i = 0; i <= taps; i++) {
#pragma HLS PIPELINE II = 1
            entry[i] = table[y * (taps + 1) + i];
        }
        for (unsigned i = 0; i < taps; i++) {
            weights.write((unsigned)entry[1 + i]);
            unsigned row = nearest(entry[0] + (int)i, height);
            read_row(src, out, first + row * stride, samples);
        }
    }
}

static void down(Numbers &weights, Words &in, Words &out, unsigned samples, unsigned dst_height,
                 unsigned taps)
{
    // Sums wrap around.
    unsigned sums[STRIP / NPC][NPC];
#pragma HLS ARRAY_PARTITION variable = sums complete dim = 2
    for (unsigned y = 0; y < dst_height; y++) {
        for (unsigned i = 0; i < taps; i++) {
            unsigned weight = weights.read();
            for (unsigned g = 0; g < words(samples); g++) {
#pragma HLS PIPELINE II = 1
                Word from = in.read();
                for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                    sums[g][l] = (i == 0 ? 1u << 7 : sums[g][l]) + weight * lane(from, l);
                }
            }
        }
        for (unsigned g = 0; g < words(2 * samples); g++) {
#pragma HLS PIPELINE II = 1
            Word to = 0;
            for (unsigned l = 0; l < NPC / 2; l++) {
#pragma HLS UNROLL
                unsigned sum = sums[g / 2][g % 2 * (NPC / 2) + l];
                to.range(16 * l + 15, 16 * l) = sum >> 8 & 0xFFFF;
            }
            out.write(to);
        }
    }
}

static void down_strip(const int *table, const Word *src, Word *dst, unsigned at,
                       unsigned samples, unsigned row, unsigned height, unsigned offset,
                       unsigned stride, unsigned dst_height, unsigned taps)
{
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    Numbers weights("weights");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = weights depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_taps(table, src, weights, in, offset + at, samples, height, stride, dst_height, taps);
    down(weights, in, out, samples, dst_height, taps);
    write_rows(out, dst, 2 * at, 2 * samples, dst_height, 2 * row);
}

extern "C" void resize_down(const int *table, const Word *src, Word *dst, unsigned width,
                            unsigned height, unsigned channels, unsigned offset, unsigned stride,
                            unsigned dst_height, unsigned taps)
{
#pragma HLS INTERFACE m_axi port = table bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = channels
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = dst_height
#pragma HLS INTERFACE s_axilite port = taps
#pragma HLS INTERFACE s_axilite port = return
    unsigned row = width * channels;
    for (unsigned at = 0; at < row; at += STRIP) {
        unsigned samples = row - at < STRIP ? row - at : STRIP;
        down_strip(table, src, dst, at, samples, row, height, offset, stride, dst_height, taps);
    }
}

// Columns of the source from `first` on.
struct Span {
    unsigned first, count;
};

// The entries of so many columns of the result, and the part of a row that they take.
static Span load(const int *table, int firsts[STRIP], int weights[WEIGHTS], unsigned count,
                 unsigned taps, unsigned width)
{
    unsigned least = width - 1, most = 0, column = 0, tap = 0;
    for (unsigned i = 0; i < count * (taps + 1); i++) {
#pragma HLS PIPELINE II = 1
        int value = table[i];
        if (tap == 0) {
            firsts[column] = value;
            unsigned first = nearest(value, width), last = nearest(value + (int)taps - 1, width);
            least = first < least ? first : least;
            most = last > most ? last : most;
        } else {
            weights[column * taps + tap - 1] = value;
        }
        bool is_whole = tap == taps;
        tap = is_whole ? 0 : tap + 1;
        column += is_whole;
    }
    Span span = {least, most - least + 1};
    return span;
}

static void across(const int firsts[STRIP], const int weights[WEIGHTS], Words &in, Numbers &out,
                   Span span, unsigned columns, unsigned width, unsigned height,
                   unsigned channels, unsigned taps)
{
    short line[SIDE_MAX + 1][CHANNELS_MAX];
#pragma HLS ARRAY_PARTITION variable = line complete dim = 2
    for (unsigned y = 0; y < height; y++) {
        Word from = 0;
        unsigned pixel = 0, channel = 0;
        for (unsigned i = 0; i < span.count * channels; i++) {
#pragma HLS PIPELINE II = 1
            unsigned at = i % (NPC / 2);
            if (at == 0)
                from = in.read();
            line[pixel][channel] = (short)from.range(16 * at + 15, 16 * at).to_uint();
            bool is_whole = channel + 1 == channels;
            channel = is_whole ? 0 : channel + 1;
            pixel += is_whole;
        }
        for (unsigned x = 0; x < columns; x++) {
            // Sums wrap around.
            unsigned sums[CHANNELS_MAX] = {1u << 19, 1u << 19, 1u << 19, 1u << 19};
#pragma HLS ARRAY_PARTITION variable = sums complete
            for (unsigned i = 0; i < taps; i++) {
#pragma HLS PIPELINE II = 1
                unsigned at = nearest(firsts[x] + (int)i, width) - span.first;
                int weight = weights[x * taps + i];
                for (unsigned c = 0; c < CHANNELS_MAX; c++) {
#pragma HLS UNROLL
                    if (c < channels)
                        sums[c] += (unsigned)weight * (unsigned)(int)line[at][c];
                }
            }
            unsigned bytes = 0;
            for (unsigned c = 0; c < CHANNELS_MAX; c++) {
#pragma HLS UNROLL
                bytes |= (unsigned)clamped((int)sums[c] >> 20) << 8 * c;
            }
            out.write(bytes);
        }
    }
}

static void across_strip(const int firsts[STRIP], const int weights[WEIGHTS], const Word *src,
                         Word *dst, Span span, unsigned columns, unsigned width, unsigned height,
                         unsigned channels, unsigned offset, unsigned stride, unsigned taps)
{
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    Numbers pixels("pixels");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = pixels depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, 2 * span.first * channels, 2 * span.count * channels, height,
              2 * width * channels);
    across(firsts, weights, in, pixels, span, columns, width, height, channels, taps);
    pack_pixels(pixels, out, columns, height, channels);
    write_rows(out, dst, offset, columns * channels, height, stride);
}

extern "C" void resize_across(const int *table, const Word *src, Word *dst, unsigned width,
                              unsigned height, unsigned channels, unsigned offset,
                              unsigned stride, unsigned dst_width, unsigned taps)
{
#pragma HLS INTERFACE m_axi port = table bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = channels
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = dst_width
#pragma HLS INTERFACE s_axilite port = taps
#pragma HLS INTERFACE s_axilite port = return
    int firsts[STRIP], weights[WEIGHTS];
    // Strips of as many columns as there is room for their weights.
    unsigned most = WEIGHTS / taps < STRIP ? WEIGHTS / taps : STRIP;
    for (unsigned at = 0; at < dst_width; at += most) {
        unsigned columns = dst_width - at < most ? dst_width - at : most;
        Span span = load(table + at * (taps + 1), firsts, weights, columns, taps, width);
        across_strip(firsts, weights, src, dst, span, columns, width, height, channels,
                     offset + at * channels, stride, taps);
    }
}
