// The form of wide.cl for FPGA cards: its text, one macroblock after the other.
typedef unsigned char uchar;
typedef unsigned int uint;

#define KERNEL static
#define FN static
#define TABLE static const
#define GLOBAL
#define restrict __restrict__
// An item at a time, which is a group of its own.
#define ITEM item
#define ROW item
#define LANE 0u
#define COLUMNS(x, count) for (uint x = 0; x < (count); x++)
#define BARRIER
#define BYTE(v) ((uchar)MIN(MAX((int)(v), 0), 255))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static uint item;

#define h264_search search_item
#define h264_code code_item
#define h264_diagonal diagonal_item
#define h264_pad pad_item
#include "wide.cl"
#undef h264_search
#undef h264_code
#undef h264_diagonal
#undef h264_pad

// Macroblocks that cover so many samples.
static uint blocks(uint side) { return (side + 15) / 16; }

extern "C" void h264_search(const int *control, const uchar *frame, const uchar *reference,
                            const short *before, short *after, uint width, uint height)
{
#pragma HLS INTERFACE m_axi port = control bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = frame bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = reference bundle = gmem2 offset = slave
#pragma HLS INTERFACE m_axi port = before bundle = gmem3 offset = slave
#pragma HLS INTERFACE m_axi port = after bundle = gmem4 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = return
    for (item = 0; item < blocks(width) * blocks(height); item++)
        search_item(control, frame, reference, before, after, width, height);
}

extern "C" void h264_code(const int *control, const uchar *frame, const uchar *reference,
                          short *field, uchar *picture, short *levels, uint width, uint height)
{
#pragma HLS INTERFACE m_axi port = control bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = frame bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = reference bundle = gmem2 offset = slave
#pragma HLS INTERFACE m_axi port = field bundle = gmem3 offset = slave
#pragma HLS INTERFACE m_axi port = picture bundle = gmem4 offset = slave
#pragma HLS INTERFACE m_axi port = levels bundle = gmem5 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = return
    for (item = 0; item < blocks(width) * blocks(height); item++)
        code_item(control, frame, reference, field, picture, levels, width, height);
}

extern "C" void h264_diagonal(const int *control, const uchar *frame, const short *field,
                              uchar *picture, short *levels, uint width, uint height, uint number)
{
#pragma HLS INTERFACE m_axi port = control bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = frame bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = field bundle = gmem2 offset = slave
#pragma HLS INTERFACE m_axi port = picture bundle = gmem3 offset = slave
#pragma HLS INTERFACE m_axi port = levels bundle = gmem4 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = number
#pragma HLS INTERFACE s_axilite port = return
    for (item = 0; item < 2 * blocks(height); item++)
        diagonal_item(control, frame, field, picture, levels, width, height, number);
}

extern "C" void h264_pad(uchar *picture, uint width, uint height)
{
#pragma HLS INTERFACE m_axi port = picture bundle = gmem0 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = return
    for (item = 0; item < 3 * (8 * blocks(height) + PAD); item++)
        pad_item(picture, width, height);
}
