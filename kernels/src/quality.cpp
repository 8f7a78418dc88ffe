// The forms of quality.cl for FPGA cards: a group of samples, or of one block, each clock.
#include "numbers.hpp"

static const unsigned BLOCK = 4;

static void add_squares(Words &a, Words &b, Numbers &out, unsigned width, unsigned height)
{
    for (unsigned y = 0; y < height; y++) {
        unsigned sum = 0;
        for (unsigned g = 0; g < words(width); g++) {
#pragma HLS PIPELINE II = 1
            Word from_a = a.read(), from_b = b.read();
            for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                int d = lane(from_a, l) - lane(from_b, l);
                sum += g * NPC + l < width ? (unsigned)(d * d) : 0;
            }
        }
        out.write(sum);
    }
}

// Of each block the sums of a, of b, of the squares of both, and of the products.
static void add_blocks(Words &a, Words &b, Numbers &out, unsigned columns, unsigned rows)
{
    unsigned sums[4][SIDE_MAX / BLOCK];
#pragma HLS ARRAY_PARTITION variable = sums complete dim = 1
    for (unsigned y = 0; y < BLOCK * rows; y++) {
        Word from_a = 0, from_b = 0;
        for (unsigned x = 0; x < columns; x++) {
#pragma HLS PIPELINE II = 1
            if (BLOCK * x % NPC == 0) {
                from_a = a.read();
                from_b = b.read();
            }
            unsigned add[4] = {0, 0, 0, 0};
            for (unsigned i = 0; i < BLOCK; i++) {
#pragma HLS UNROLL
                unsigned p = lane(from_a, BLOCK * x % NPC + i);
                unsigned q = lane(from_b, BLOCK * x % NPC + i);
                add[0] += p;
                add[1] += q;
                add[2] += p * p + q * q;
                add[3] += p * q;
            }
            for (unsigned i = 0; i < 4; i++) {
#pragma HLS UNROLL
                sums[i][x] = (y % BLOCK == 0 ? 0 : sums[i][x]) + add[i];
            }
        }
        if (y % BLOCK != BLOCK - 1)
            continue;
        for (unsigned i = 0; i < 4 * columns; i++) {
#pragma HLS PIPELINE II = 1
            out.write(sums[i % 4][i / 4]);
        }
    }
}

extern "C" void square_sums(const Word *a, const Word *b, unsigned *sums, unsigned width,
                            unsigned height, unsigned a_stride, unsigned b_stride)
{
#pragma HLS INTERFACE m_axi port = a bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = b bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = sums bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = a_stride
#pragma HLS INTERFACE s_axilite port = b_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words from_a("from_a"), from_b("from_b");
    Numbers out("out");
#pragma HLS STREAM variable = from_a depth = 64
#pragma HLS STREAM variable = from_b depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(a, from_a, 0, width, height, a_stride);
    read_rows(b, from_b, 0, width, height, b_stride);
    add_squares(from_a, from_b, out, width, height);
    write_numbers(out, sums, height);
}

extern "C" void ssim_blocks(const Word *a, const Word *b, unsigned *sums, unsigned width,
                            unsigned height, unsigned a_stride, unsigned b_stride)
{
#pragma HLS INTERFACE m_axi port = a bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = b bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = sums bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = a_stride
#pragma HLS INTERFACE s_axilite port = b_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words from_a("from_a"), from_b("from_b");
    Numbers out("out");
#pragma HLS STREAM variable = from_a depth = 64
#pragma HLS STREAM variable = from_b depth = 64
#pragma HLS STREAM variable = out depth = 64
    // Samples that fill no block are not read.
    unsigned columns = width / BLOCK, rows = height / BLOCK;
    read_rows(a, from_a, 0, BLOCK * columns, BLOCK * rows, a_stride);
    read_rows(b, from_b, 0, BLOCK * columns, BLOCK * rows, b_stride);
    add_blocks(from_a, from_b, out, columns, rows);
    write_numbers(out, sums, 4 * columns * rows);
}
