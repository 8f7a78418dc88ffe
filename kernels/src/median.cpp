// The form of median.cl for FPGA cards: a sample each clock.
#include "window.hpp"

static const unsigned MEDIAN_MAX = 5;

// The largest value that at most half of the samples are below, bit by bit.
static uchar middle(const Window<MEDIAN_MAX> &window, unsigned side, unsigned channels)
{
#pragma HLS INLINE
    unsigned found = 0;
    for (unsigned bit = 128; bit > 0; bit /= 2) {
#pragma HLS UNROLL
        unsigned below = 0;
        for (unsigned i = 0; i < MEDIAN_MAX; i++) {
#pragma HLS UNROLL
            for (unsigned j = 0; j < MEDIAN_MAX; j++) {
#pragma HLS UNROLL
                below += i < side && j < side && window.tap(i, j, side, channels) < found + bit;
            }
        }
        if (below <= side * side / 2)
            found += bit;
    }
    return (uchar)found;
}

static void medians(hls::stream<Column<MEDIAN_MAX> > &in, Numbers &out, Strip strip)
{
    Window<MEDIAN_MAX> window;
    for (unsigned y = 0; y < strip.height; y++) {
        for (unsigned x = 0; x < strip.steps(); x++) {
#pragma HLS PIPELINE II = 1
            window.shift(in.read());
            if (x >= strip.ahead())
                out.write(middle(window, strip.side, strip.channels));
        }
    }
}

static void median_strip(const Word *src, Word *dst, Strip strip, unsigned offset,
                         unsigned src_stride, unsigned dst_stride)
{
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    hls::stream<Column<MEDIAN_MAX> > around("around");
    Numbers results("results");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = around depth = 64
#pragma HLS STREAM variable = results depth = 64
#pragma HLS STREAM variable = out depth = 64
    unsigned bytes = strip.count * strip.channels;
    read_rows(src, in, offset + strip.first * strip.channels, strip.given * strip.channels,
              strip.height, src_stride);
    columns<MEDIAN_MAX, REPEATED>(in, around, strip);
    medians(around, results, strip);
    pack_rows(results, out, bytes, strip.height);
    write_rows(out, dst, offset + strip.at * strip.channels, bytes, strip.height, dst_stride);
}

extern "C" void median(const Word *src, Word *dst, unsigned width, unsigned height,
                       unsigned channels, unsigned offset, unsigned src_stride,
                       unsigned dst_stride, unsigned side)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = channels
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = side
#pragma HLS INTERFACE s_axilite port = return
    for (unsigned at = 0; at < width; at += STRIP) {
        Strip strip(width, height, channels, side, at);
        median_strip(src, dst, strip, offset, src_stride, dst_stride);
    }
}
