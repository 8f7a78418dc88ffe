// The form of boxes.cl for FPGA cards. Only the outlines are written, byte by byte; nothing is read
// but the list.
#include <ap_int.h>

typedef unsigned char uchar;

static const unsigned RECTS_MAX = 256;

static void fill(ap_uint<8> *to, unsigned from, unsigned count, unsigned bytes, unsigned colour)
{
    unsigned phase = 0;
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        to[from + i] = (uchar)(colour >> (8 * phase));
        phase = phase + 1 == bytes ? 0 : phase + 1;
    }
}

// The pixels that samples [from, to) of the frame are in, of the row at a place.
static void span(ap_uint<8> *plane, unsigned row, unsigned from, unsigned to, unsigned bytes,
                 unsigned halvings, unsigned colour)
{
    if (from >= to)
        return;
    unsigned first = from >> halvings, end = (to + (1u << halvings) - 1) >> halvings;
    fill(plane, row + first * bytes, (end - first) * bytes, bytes, colour);
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
            span(plane, at, left, first, bytes, halvings, colour);
            span(plane, at, second, right, bytes, halvings, colour);
        }
    }
}
