// The forms of edges.cl for FPGA cards: sobel makes a group of samples each clock, filter2d one.
#include "window.hpp"

static const unsigned FILTER_MAX = 7;

// Three words of a row, side by side, around the group that is worked on.
struct Around {
    Word left, here, right;

    int at(int i) const
    {
#pragma HLS INLINE
        return i < 0               ? lane(left, NPC + i)
               : i < (int)NPC ? lane(here, i)
                              : lane(right, i - NPC);
    }
};

static Word gradients(const Around rows[3], unsigned x, unsigned width)
{
#pragma HLS INLINE
    const Around &above = rows[0], &here = rows[1], &below = rows[2];
    Word to = 0;
    for (unsigned i = 0; i < NPC; i++) {
#pragma HLS UNROLL
        // Neighbours, mirrored at the ends.
        int c = i, l = c + (x + i > 0 ? -1 : width > 1 ? 1 : 0);
        int r = c + (x + i + 1 < width ? 1 : width > 1 ? -1 : 0);
        int gx = above.at(r) + 2 * here.at(r) + below.at(r) - above.at(l) - 2 * here.at(l) -
                 below.at(l);
        int gy = below.at(l) + 2 * below.at(c) + below.at(r) - above.at(l) - 2 * above.at(c) -
                 above.at(r);
        set_lane(to, i, clamped((gx < 0 ? -gx : gx) + (gy < 0 ? -gy : gy)));
    }
    return to;
}

static void filter(Words &in, Words &out, unsigned width, unsigned height)
{
    Word lines[3][SIDE_MAX / NPC + 1];
#pragma HLS ARRAY_PARTITION variable = lines complete dim = 1
    unsigned count = words(width);
    for (unsigned y = 0; y < height + 1; y++) {
        // Row y comes in, row y - 1 goes out.
        for (unsigned g = 0; g < count && y < height; g++) {
#pragma HLS PIPELINE II = 1
            lines[y % 3][g] = in.read();
        }
        if (y == 0)
            continue;
        unsigned from[3];
        for (int i = 0; i < 3; i++)
            from[i] = (unsigned)mirrored((int)y - 2 + i, height) % 3;
        Around rows[3];
        for (int i = 0; i < 3; i++) {
            rows[i].here = 0;
            rows[i].right = lines[from[i]][0];
        }
        for (unsigned g = 0; g < count; g++) {
#pragma HLS PIPELINE II = 1
            for (int i = 0; i < 3; i++) {
#pragma HLS UNROLL
                rows[i].left = rows[i].here;
                rows[i].here = rows[i].right;
                if (g + 1 < count)
                    rows[i].right = lines[from[i]][g + 1];
            }
            out.write(gradients(rows, g * NPC, width));
        }
    }
}

extern "C" void sobel(const Word *src, Word *dst, unsigned width, unsigned height,
                      unsigned src_stride, unsigned dst_stride)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, 0, width, height, src_stride);
    filter(in, out, width, height);
    write_rows(out, dst, 0, width, height, dst_stride);
}

static void weigh(const int *factors, hls::stream<Column<FILTER_MAX> > &in, Numbers &out,
                  Strip strip, unsigned shift, int bias, unsigned absolute)
{
    unsigned kept[FILTER_MAX][FILTER_MAX], side = strip.side;
#pragma HLS ARRAY_PARTITION variable = kept complete dim = 0
    for (unsigned i = 0; i < side; i++) {
        for (unsigned j = 0; j < side; j++) {
#pragma HLS PIPELINE II = 1
            kept[i][j] = (unsigned)factors[i * side + j];
        }
    }
    Window<FILTER_MAX> window;
    for (unsigned y = 0; y < strip.height; y++) {
        for (unsigned x = 0; x < strip.steps(); x++) {
#pragma HLS PIPELINE II = 1
            window.shift(in.read());
            if (x < strip.ahead())
                continue;
            // Sums wrap around.
            unsigned sum = (1u << shift) >> 1;
            for (unsigned i = 0; i < FILTER_MAX; i++) {
#pragma HLS UNROLL
                for (unsigned j = 0; j < FILTER_MAX; j++) {
#pragma HLS UNROLL
                    if (i < side && j < side)
                        sum += kept[i][j] * window.tap(i, j, side, strip.channels);
                }
            }
            int value = ((int)sum >> shift) + bias;
            out.write(clamped(absolute && value < 0 ? -value : value));
        }
    }
}

static void filter_strip(const int *factors, const Word *src, Word *dst, Strip strip,
                         unsigned offset, unsigned src_stride, unsigned dst_stride,
                         unsigned shift, int bias, unsigned absolute)
{
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    hls::stream<Column<FILTER_MAX> > around("around");
    Numbers results("results");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = around depth = 64
#pragma HLS STREAM variable = results depth = 64
#pragma HLS STREAM variable = out depth = 64
    unsigned bytes = strip.count * strip.channels;
    read_rows(src, in, offset + strip.first * strip.channels, strip.given * strip.channels,
              strip.height, src_stride);
    columns<FILTER_MAX, MIRRORED>(in, around, strip);
    weigh(factors, around, results, strip, shift, bias, absolute);
    pack_rows(results, out, bytes, strip.height);
    write_rows(out, dst, offset + strip.at * strip.channels, bytes, strip.height, dst_stride);
}

extern "C" void filter2d(const int *factors, const Word *src, Word *dst, unsigned width,
                         unsigned height, unsigned channels, unsigned offset,
                         unsigned src_stride, unsigned dst_stride, unsigned side, unsigned shift,
                         int bias, unsigned absolute)
{
#pragma HLS INTERFACE m_axi port = factors bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = channels
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = side
#pragma HLS INTERFACE s_axilite port = shift
#pragma HLS INTERFACE s_axilite port = bias
#pragma HLS INTERFACE s_axilite port = absolute
#pragma HLS INTERFACE s_axilite port = return
    for (unsigned at = 0; at < width; at += STRIP) {
        Strip strip(width, height, channels, side, at);
        filter_strip(factors, src, dst, strip, offset, src_stride, dst_stride, shift, bias,
                     absolute);
    }
}
