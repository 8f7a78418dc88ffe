// The form of boxes.cl for FPGA cards. Only the outlines are written, byte by byte; nothing is read
// but the list.
#include <ap_int.h>

typedef unsigned char uchar;

static const unsigned RECTS_MAX = 256;

static void fill(ap_uint<8> *to, unsigned from, unsigned count, uchar even, uchar odd)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        to[from + i] = i & 1 ? odd : even;
    }
}

// Bytes [from, to) of a luma row, or the pairs of chroma that they touch.
static void span(ap_uint<8> *frame, unsigned row, unsigned from, unsigned to, bool is_chroma,
                 uchar even, uchar odd)
{
    if (from >= to)
        return;
    if (is_chroma)
        fill(frame, row + from / 2 * 2, ((to + 1) / 2 - from / 2) * 2, even, odd);
    else
        fill(frame, row + from, to - from, even, even);
}

extern "C" void boxes(const unsigned *rects, ap_uint<8> *frame, unsigned width, unsigned height,
                      unsigned stride, unsigned chroma_offset, unsigned chroma_stride,
                      unsigned thickness, unsigned y, unsigned cb, unsigned cr)
{
#pragma HLS INTERFACE m_axi port = rects bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = frame bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = chroma_offset
#pragma HLS INTERFACE s_axilite port = chroma_stride
#pragma HLS INTERFACE s_axilite port = thickness
#pragma HLS INTERFACE s_axilite port = y
#pragma HLS INTERFACE s_axilite port = cb
#pragma HLS INTERFACE s_axilite port = cr
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
            unsigned pairs = chroma_offset + row / 2 * chroma_stride;
            span(frame, row * stride, left, first, false, y, y);
            span(frame, row * stride, second, right, false, y, y);
            span(frame, pairs, left, first, true, cb, cr);
            span(frame, pairs, second, right, true, cb, cr);
        }
    }
}
