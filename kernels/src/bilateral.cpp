// The form of bilateral.cl for FPGA cards: a sample each clock, all weights of a window at once.
#include "window.hpp"

static const unsigned BILATERAL_MAX = 9;
static const unsigned LEVELS = 256;

static void weigh(const unsigned *weights, hls::stream<Column<BILATERAL_MAX> > &in, Numbers &out,
                  Strip strip)
{
    // Each sample of a window reads its own copy.
    uchar alike[BILATERAL_MAX][BILATERAL_MAX][LEVELS], near[BILATERAL_MAX][BILATERAL_MAX];
#pragma HLS ARRAY_PARTITION variable = alike complete dim = 1
#pragma HLS ARRAY_PARTITION variable = alike complete dim = 2
#pragma HLS ARRAY_PARTITION variable = near complete dim = 0
    unsigned side = strip.side, channels = strip.channels;
    for (unsigned level = 0; level < LEVELS; level++) {
#pragma HLS PIPELINE II = 1
        uchar weight = (uchar)weights[level];
        for (unsigned i = 0; i < BILATERAL_MAX; i++) {
#pragma HLS UNROLL
            for (unsigned j = 0; j < BILATERAL_MAX; j++) {
#pragma HLS UNROLL
                alike[i][j][level] = weight;
            }
        }
    }
    for (unsigned i = 0; i < side; i++) {
        for (unsigned j = 0; j < side; j++) {
#pragma HLS PIPELINE II = 1
            near[i][j] = (uchar)weights[LEVELS + i * side + j];
        }
    }
    Window<BILATERAL_MAX> window;
    for (unsigned y = 0; y < strip.height; y++) {
        for (unsigned x = 0; x < strip.steps(); x++) {
#pragma HLS PIPELINE II = 1
            window.shift(in.read());
            if (x < strip.ahead())
                continue;
            unsigned sum = 0, total = 0, middle = window.tap(side / 2, side / 2, side, channels);
            for (unsigned i = 0; i < BILATERAL_MAX; i++) {
#pragma HLS UNROLL
                for (unsigned j = 0; j < BILATERAL_MAX; j++) {
#pragma HLS UNROLL
                    if (i >= side || j >= side)
                        continue;
                    unsigned sample = window.tap(i, j, side, channels);
                    unsigned difference = sample < middle ? middle - sample : sample - middle;
                    unsigned weight = alike[i][j][difference] * near[i][j];
                    sum += weight * sample;
                    total += weight;
                }
            }
            out.write((sum + total / 2) / (total ? total : 1));
        }
    }
}

static void bilateral_strip(const unsigned *weights, const Word *src, Word *dst, Strip strip,
                            unsigned offset, unsigned src_stride, unsigned dst_stride)
{
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    hls::stream<Column<BILATERAL_MAX> > around("around");
    Numbers results("results");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = around depth = 64
#pragma HLS STREAM variable = results depth = 64
#pragma HLS STREAM variable = out depth = 64
    unsigned bytes = strip.count * strip.channels;
    read_rows(src, in, offset + strip.first * strip.channels, strip.given * strip.channels,
              strip.height, src_stride);
    columns<BILATERAL_MAX, MIRRORED>(in, around, strip);
    weigh(weights, around, results, strip);
    pack_rows(results, out, bytes, strip.height);
    write_rows(out, dst, offset + strip.at * strip.channels, bytes, strip.height, dst_stride);
}

extern "C" void bilateral(const unsigned *weights, const Word *src, Word *dst, unsigned width,
                          unsigned height, unsigned channels, unsigned offset,
                          unsigned src_stride, unsigned dst_stride, unsigned side)
{
#pragma HLS INTERFACE m_axi port = weights bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = src bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
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
        bilateral_strip(weights, src, dst, strip, offset, src_stride, dst_stride);
    }
}
