// The form of jpeg.cl for FPGA cards: a dataflow of blocks, a sample each clock.
#include "rows.hpp"

typedef hls::stream<short> Shorts;

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

// A sample of limited range, `span` steps wide, as one of full range.
static int expanded(unsigned sample, unsigned span)
{
#pragma HLS INLINE
    unsigned above = (sample < 16 ? 16 : sample > 16 + span ? 16 + span : sample) - 16;
    return (int)((above * 255 + span / 2) / span);
}

// A block from column x and row y on; the last column and row are repeated.
static void load(const ap_uint<8> *from, Shorts &out, unsigned x, unsigned y, unsigned width,
                 unsigned height, unsigned stride, unsigned step, unsigned span)
{
    for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
        unsigned column = x + i % 8 < width ? x + i % 8 : width - 1;
        unsigned row = y + i / 8 < height ? y + i / 8 : height - 1;
        unsigned sample = from[row * stride + column * step].to_uint();
        out.write((short)((span ? expanded(sample, span) : (int)sample) - 128));
    }
}

static void load_all(const ap_uint<8> *frame, Shorts &out, unsigned width, unsigned height,
                     unsigned stride, unsigned chroma_offset, unsigned chroma_stride,
                     unsigned limited)
{
    unsigned columns = (width + 15) / 16, rows = (height + 15) / 16;
    for (unsigned mcu = 0; mcu < columns * rows; mcu++) {
        unsigned mx = mcu % columns, my = mcu / columns;
        for (unsigned b = 0; b < 6; b++) {
            bool is_luma = b < 4;
            unsigned x = is_luma ? mx * 16 + (b & 1) * 8 : mx * 8;
            unsigned y = is_luma ? my * 16 + (b >> 1) * 8 : my * 8;
            const ap_uint<8> *plane = is_luma ? frame : frame + chroma_offset + (b - 4);
            load(plane, out, x, y, is_luma ? width : (width + 1) / 2,
                 is_luma ? height : (height + 1) / 2, is_luma ? stride : chroma_stride,
                 is_luma ? 1 : 2, !limited ? 0 : is_luma ? 219 : 224);
        }
    }
}

static void transform(Shorts &in, const int factors[64], Shorts &out)
{
    int s[8][8], t[8][8];
    short levels[64];
    for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
        s[i / 8][i % 8] = in.read();
    }
    for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
        unsigned u = i / 8, x = i % 8;
        int sum = 1 << 6;
        for (unsigned y = 0; y < 8; y++) {
#pragma HLS UNROLL
            sum += COSINES[8 * u + y] * s[y][x];
        }
        t[u][x] = sum >> 7;
    }
    for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
        unsigned u = i / 8, v = i % 8;
        int sum = 1 << 15;
        for (unsigned x = 0; x < 8; x++) {
#pragma HLS UNROLL
            sum += t[u][x] * COSINES[8 * v + x];
        }
        int c = sum >> 16, level = ((c < 0 ? -c : c) * factors[i] + (1 << 19)) >> 20;
        level = level < 1023 ? level : 1023;
        levels[i] = (short)(c < 0 ? -level : level);
    }
    for (unsigned i = 0; i < 64; i++) {
#pragma HLS PIPELINE II = 1
        out.write(levels[ZIGZAG[i]]);
    }
}

static void transform_all(const int *quantiser, Shorts &in, Shorts &out, unsigned blocks)
{
    int factors[2][64];
    for (unsigned i = 0; i < 128; i++) {
#pragma HLS PIPELINE II = 1
        factors[i / 64][i % 64] = quantiser[i];
    }
    for (unsigned block = 0; block < blocks; block++)
        transform(in, factors[block % 6 > 3], out);
}

static void store(Shorts &in, short *levels, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        levels[i] = in.read();
    }
}

extern "C" void jpeg(const int *quantiser, const ap_uint<8> *frame, short *levels, unsigned width,
                     unsigned height, unsigned stride, unsigned chroma_offset,
                     unsigned chroma_stride, unsigned limited)
{
#pragma HLS INTERFACE m_axi port = quantiser bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = frame bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = levels bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = chroma_offset
#pragma HLS INTERFACE s_axilite port = chroma_stride
#pragma HLS INTERFACE s_axilite port = limited
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Shorts samples("samples"), out("out");
#pragma HLS STREAM variable = samples depth = 128
#pragma HLS STREAM variable = out depth = 128
    unsigned blocks = 6 * ((width + 15) / 16) * ((height + 15) / 16);
    load_all(frame, samples, width, height, stride, chroma_offset, chroma_stride, limited);
    transform_all(quantiser, samples, out, blocks);
    store(out, levels, 64 * blocks);
}
