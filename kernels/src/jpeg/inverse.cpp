// The form of inverse.cl for FPGA cards: a dataflow that makes a sample each clock.
#include "../rows.hpp"

typedef hls::stream<short> Levels;
typedef hls::stream<uchar> Samples;

static const int COSINES[64] = {
    2896, 2896, 2896, 2896, 2896, 2896, 2896, 2896,
    4017, 3406, 2276, 799, -799, -2276, -3406, -4017,
    3784, 1567, -1567, -3784, -3784, -1567, 1567, 3784,
    3406, -799, -4017, -2276, 2276, 4017, 799, -3406,
    2896, -2896, -2896, 2896, 2896, -2896, -2896, 2896,
    2276, -4017, 799, 3406, -3406, -799, 4017, -2276,
    1567, -3784, 3784, -1567, -1567, 3784, -3784, 1567,
    799, -2276, 3406, -4017, 4017, -3406, 2276, -799,
};

static const uchar ZIGZAG[64] = {
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

static void load(const short *levels, Levels &out, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        out.write(levels[i]);
    }
}

// Blocks of levels as blocks of samples, row by row.
static void inverse(const unsigned *steps, Levels &in, Samples &out, unsigned blocks)
{
    int factors[2][64];
    for (unsigned i = 0; i < 128; i++) {
#pragma HLS PIPELINE II = 1
        factors[i / 64][i % 64] = (int)(steps[i] & 255);
    }
    for (unsigned block = 0; block < blocks; block++) {
        int c[8][8], t[8][8];
#pragma HLS ARRAY_PARTITION variable = c complete dim = 2
#pragma HLS ARRAY_PARTITION variable = t complete dim = 1
        for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
            unsigned at = ZIGZAG[i];
            int product = in.read() * factors[block % 6 > 3][at];
            c[at / 8][at % 8] = product < -2048 ? -2048 : product > 2047 ? 2047 : product;
        }
        for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
            unsigned u = i / 8, x = i % 8;
            int sum = 1 << 8;
            for (unsigned v = 0; v < 8; v++) {
#pragma HLS UNROLL
                sum += COSINES[8 * v + x] * c[u][v];
            }
            t[u][x] = sum >> 9;
        }
        for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
            unsigned y = i / 8, x = i % 8;
            int sum = 1 << 16;
            for (unsigned u = 0; u < 8; u++) {
#pragma HLS UNROLL
                sum += COSINES[8 * u + y] * t[u][x];
            }
            out.write(clamped((sum >> 17) + 128));
        }
    }
}

// What is inside the frame of a block's samples, `step` bytes apart.
static void store(Samples &in, ap_uint<8> *to, unsigned left, unsigned top, unsigned width,
                  unsigned height, unsigned stride, unsigned step)
{
    for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
        unsigned x = left + i % 8, y = top + i / 8;
        uchar sample = in.read();
        if (x < width && y < height)
            to[y * stride + x * step] = sample;
    }
}

static void store_all(Samples &in, ap_uint<8> *frame, unsigned width, unsigned height,
                      unsigned stride, unsigned chroma_offset, unsigned chroma_stride)
{
    unsigned columns = (width + 15) / 16, rows = (height + 15) / 16;
    for (unsigned mcu = 0; mcu < columns * rows; mcu++) {
        unsigned mx = mcu % columns, my = mcu / columns;
        for (unsigned b = 0; b < 6; b++) {
            if (b < 4)
                store(in, frame, mx * 16 + (b & 1) * 8, my * 16 + (b >> 1) * 8, width, height,
                      stride, 1);
            else
                store(in, frame + chroma_offset + (b - 4), mx * 8, my * 8, (width + 1) / 2,
                      (height + 1) / 2, chroma_stride, 2);
        }
    }
}

extern "C" void jpeg_inverse(const unsigned *steps, const short *levels, ap_uint<8> *frame,
                             unsigned width, unsigned height, unsigned stride,
                             unsigned chroma_offset, unsigned chroma_stride)
{
#pragma HLS INTERFACE m_axi port = steps bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = levels bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = frame bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = chroma_offset
#pragma HLS INTERFACE s_axilite port = chroma_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Levels in("in");
    Samples out("out");
#pragma HLS STREAM variable = in depth = 128
#pragma HLS STREAM variable = out depth = 128
    unsigned blocks = 6 * ((width + 15) / 16) * ((height + 15) / 16);
    load(levels, in, 64 * blocks);
    inverse(steps, in, out, blocks);
    store_all(out, frame, width, height, stride, chroma_offset, chroma_stride);
}
