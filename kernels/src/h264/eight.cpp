// The form of eight.cl for FPGA cards: a dataflow of blocks, some clocks for each line of one.
#include "../rows.hpp"

typedef hls::stream<uchar> Samples;
typedef hls::stream<short> Levels;

// Multipliers and steps of the six kinds of places, by qp % 6.
static const int FACTORS[36] = {
    13107, 11428, 20972, 12222, 16777, 15481, 11916, 10826, 19174, 11058, 14980, 14290,
    10082, 8943, 15978, 9675, 12710, 11985, 9362, 8228, 14913, 8931, 11984, 11259,
    8192, 7346, 13159, 7740, 10486, 9777, 7282, 6428, 11570, 6830, 9118, 8640,
};

static const int STEPS[36] = {
    20, 18, 32, 19, 25, 24, 22, 19, 35, 21, 28, 26, 26, 23, 42, 24, 33, 31,
    28, 25, 45, 26, 35, 33, 32, 28, 51, 30, 40, 38, 36, 32, 58, 34, 46, 43,
};

// Of a place, by the last two bits of its row and column.
static const uchar KINDS[16] = {
    0, 3, 4, 3, 3, 1, 5, 1, 4, 5, 2, 5, 3, 1, 5, 1,
};

static const uchar ZIGZAG[64] = {
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

// Blocks row by row, and their samples so.
static void load(const ap_uint<8> *from, Samples &out, unsigned columns, unsigned rows,
                 unsigned stride)
{
    for (unsigned block = 0; block < columns * rows; block++) {
        for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
            unsigned x = block % columns * 8 + i % 8, y = block / columns * 8 + i / 8;
            out.write((uchar)from[y * stride + x].to_uint());
        }
    }
}

static void store(Samples &in, ap_uint<8> *to, unsigned columns, unsigned rows, unsigned stride)
{
    for (unsigned block = 0; block < columns * rows; block++) {
        for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
            unsigned x = block % columns * 8 + i % 8, y = block / columns * 8 + i / 8;
            to[y * stride + x] = in.read();
        }
    }
}

static void store_levels(Levels &in, short *to, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        to[i] = in.read();
    }
}

static void forward(int d[8][8], unsigned line, bool is_down)
{
#pragma HLS INLINE
    int s[8];
    for (unsigned i = 0; i < 8; i++) {
#pragma HLS UNROLL
        s[i] = is_down ? d[i][line] : d[line][i];
    }
    int s07 = s[0] + s[7], s16 = s[1] + s[6], s25 = s[2] + s[5], s34 = s[3] + s[4];
    int d07 = s[0] - s[7], d16 = s[1] - s[6], d25 = s[2] - s[5], d34 = s[3] - s[4];
    int a0 = s07 + s34, a1 = s16 + s25, a2 = s07 - s34, a3 = s16 - s25;
    int a4 = d16 + d25 + d07 + (d07 >> 1), a5 = d07 - d34 - d25 - (d25 >> 1);
    int a6 = d07 + d34 - d16 - (d16 >> 1), a7 = d16 - d25 + d34 + (d34 >> 1);
    int t[8] = {a0 + a1, a4 + (a7 >> 2), a2 + (a3 >> 1), a5 + (a6 >> 2),
                a0 - a1, a6 - (a5 >> 2), (a2 >> 1) - a3, (a4 >> 2) - a7};
    for (unsigned i = 0; i < 8; i++) {
#pragma HLS UNROLL
        (is_down ? d[i][line] : d[line][i]) = t[i];
    }
}

static void inverse(int d[8][8], unsigned line, bool is_down)
{
#pragma HLS INLINE
    int s[8];
    for (unsigned i = 0; i < 8; i++) {
#pragma HLS UNROLL
        s[i] = is_down ? d[i][line] : d[line][i];
    }
    int a0 = s[0] + s[4], a2 = s[0] - s[4], a4 = (s[2] >> 1) - s[6], a6 = (s[6] >> 1) + s[2];
    int b0 = a0 + a6, b2 = a2 + a4, b4 = a2 - a4, b6 = a0 - a6;
    int a1 = s[5] - s[3] - s[7] - (s[7] >> 1), a3 = s[1] + s[7] - s[3] - (s[3] >> 1);
    int a5 = s[7] - s[1] + s[5] + (s[5] >> 1), a7 = s[3] + s[5] + s[1] + (s[1] >> 1);
    int b1 = a1 + (a7 >> 2), b3 = a3 + (a5 >> 2), b5 = (a3 >> 2) - a5, b7 = a7 - (a1 >> 2);
    int t[8] = {b0 + b7, b2 + b5, b4 + b3, b6 + b1, b6 - b1, b4 - b3, b2 - b5, b0 - b7};
    for (unsigned i = 0; i < 8; i++) {
#pragma HLS UNROLL
        (is_down ? d[i][line] : d[line][i]) = t[i];
    }
}

static void code(Samples &given, Samples &predicted, Levels &levels, Samples &rebuilt,
                 unsigned blocks, unsigned qp, bool intra)
{
    int up = (int)(qp / 6), shift = 16 + up, bias = (1 << shift) / (intra ? 3 : 6);
    for (unsigned block = 0; block < blocks; block++) {
        int d[8][8];
        uchar expected[64];
#pragma HLS ARRAY_PARTITION variable = d complete dim = 0
        for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
            expected[i] = predicted.read();
            d[i / 8][i % 8] = (int)given.read() - (int)expected[i];
        }
        for (unsigned line = 0; line < 16; line++) {
#pragma HLS PIPELINE II = 2
            forward(d, line % 8, line < 8);
        }
        for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
            unsigned at = ZIGZAG[i], number = qp % 6 * 6 + KINDS[at / 8 % 4 * 4 + at % 4];
            int c = d[at / 8][at % 8];
            int size = ((c < 0 ? -c : c) * FACTORS[number] + bias) >> shift;
            int level = c < 0 ? -size : size, product = level * 16 * STEPS[number];
            levels.write((short)level);
            d[at / 8][at % 8] =
                up < 6 ? (product + (1 << (5 - up))) >> (6 - up) : product * (1 << (up - 6));
        }
        for (unsigned line = 0; line < 16; line++) {
#pragma HLS PIPELINE II = 2
            inverse(d, line % 8, line >= 8);
        }
        for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
            rebuilt.write(clamped(expected[i] + ((d[i / 8][i % 8] + 32) >> 6)));
        }
    }
}

extern "C" void h264_eight(const ap_uint<8> *given, const ap_uint<8> *predicted, short *levels,
                           ap_uint<8> *rebuilt, unsigned columns, unsigned rows,
                           unsigned given_stride, unsigned predicted_stride,
                           unsigned rebuilt_stride, unsigned qp, unsigned intra)
{
#pragma HLS INTERFACE m_axi port = given bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = predicted bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = levels bundle = gmem2 offset = slave
#pragma HLS INTERFACE m_axi port = rebuilt bundle = gmem3 offset = slave
#pragma HLS INTERFACE s_axilite port = columns
#pragma HLS INTERFACE s_axilite port = rows
#pragma HLS INTERFACE s_axilite port = given_stride
#pragma HLS INTERFACE s_axilite port = predicted_stride
#pragma HLS INTERFACE s_axilite port = rebuilt_stride
#pragma HLS INTERFACE s_axilite port = qp
#pragma HLS INTERFACE s_axilite port = intra
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Samples in("in"), expected("expected"), out("out");
    Levels coded("coded");
#pragma HLS STREAM variable = in depth = 128
#pragma HLS STREAM variable = expected depth = 128
#pragma HLS STREAM variable = coded depth = 128
#pragma HLS STREAM variable = out depth = 128
    load(given, in, columns, rows, given_stride);
    load(predicted, expected, columns, rows, predicted_stride);
    code(in, expected, coded, out, columns * rows, qp, intra != 0);
    store_levels(coded, levels, 64 * columns * rows);
    store(out, rebuilt, columns, rows, rebuilt_stride);
}
