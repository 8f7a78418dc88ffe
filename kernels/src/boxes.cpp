// The form of boxes.cl for FPGA cards. Only the outlines are written, byte by byte; nothing is read
// but the list.
#include "rows.hpp"

static const unsigned RECTS_MAX = 256;

// Bytes of a row to be drawn; none in the last one, which ends the stream.
struct Span {
    unsigned at, count;
};
typedef hls::stream<Span> Spans;

// The pixels that samples [from, to) of the frame are in, of the row at a place.
static void span(Spans &out, unsigned row, unsigned from, unsigned to, unsigned bytes,
                 unsigned halvings)
{
#pragma HLS INLINE
    if (from >= to)
        return;
    unsigned first = from >> halvings, end = (to + (1u << halvings) - 1) >> halvings;
    Span found = {row + first * bytes, (end - first) * bytes};
    out.write(found);
}

static void outline(const unsigned *rects, Spans &out, unsigned width, unsigned height,
                    unsigned offset, unsigned stride, unsigned bytes, unsigned halvings,
                    unsigned thickness)
{
    unsigned count = rects[0] < RECTS_MAX ? rects[0] : RECTS_MAX;
    for (unsigned i = 0; i < count; i++) {
        unsigned left = rects[1 + 4 * i], top = rects[2 + 4 * i];
        unsigned wide = rects[3 + 4 * i], high = rects[4 + 4 * i];
        if (left >= width || top >= height || wide == 0 || high == 0 || thickness == 0)
            continue;
        unsigned right = left + (wide < width - left ? wide : width - left);
        unsigned bottom = top + (high < height - top ? high : height - top);
        unsigned side = thickness < right - left ? thickness : right - left;
        for (unsigned row = top; row < bottom; row++) {
            bool is_edge = row - top < thickness || bottom - 1 - row < thickness;
            unsigned first = is_edge ? right : left + side, second = is_edge ? right : right - side;
            unsigned at = offset + (row >> halvings) * stride;
            span(out, at, left, first, bytes, halvings);
            span(out, at, second, right, bytes, halvings);
        }
    }
    Span last = {0, 0};
    out.write(last);
}

static void fill(Spans &in, ap_uint<8> *plane, unsigned bytes, unsigned colour)
{
    for (Span span = in.read(); span.count > 0; span = in.read()) {
        unsigned phase = 0;
        for (unsigned i = 0; i < span.count; i++) {
#pragma HLS PIPELINE II = 1
            plane[span.at + i] = (uchar)(colour >> (8 * phase));
            phase = phase + 1 == bytes ? 0 : phase + 1;
        }
    }
}

extern "C" void boxes(const unsigned *rects, ap_uint<8> *plane, unsigned width, unsigned height,
                      unsigned offset, unsigned stride, unsigned bytes, unsigned halvings,
                      unsigned thickness, unsigned colour)
{
#pragma HLS INTERFACE m_axi port = rects bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = plane bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = bytes
#pragma HLS INTERFACE s_axilite port = halvings
#pragma HLS INTERFACE s_axilite port = thickness
#pragma HLS INTERFACE s_axilite port = colour
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Spans spans("spans");
#pragma HLS STREAM variable = spans depth = 64
    outline(rects, spans, width, height, offset, stride, bytes, halvings, thickness);
    fill(spans, plane, bytes, colour);
}
