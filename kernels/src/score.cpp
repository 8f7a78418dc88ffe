// The form of score.cl for FPGA cards.
#include "rows.hpp"

static const unsigned BLOCK = 16;

static void count(Words &in, Numbers &out, unsigned width, unsigned height)
{
    unsigned counts[SIDE_MAX / BLOCK];
    unsigned columns = (width + BLOCK - 1) / BLOCK;
    for (unsigned y = 0; y < height; y++) {
        for (unsigned g = 0; g < words(width); g++) {
#pragma HLS PIPELINE II = 2
            Word from = in.read();
            for (unsigned part = 0; part < (NPC + BLOCK - 1) / BLOCK; part++) {
#pragma HLS UNROLL
                unsigned found = 0, x = g * NPC + part * BLOCK;
                for (unsigned l = 0; l < (NPC < BLOCK ? NPC : BLOCK); l++) {
#pragma HLS UNROLL
                    found += x + l < width && lane(from, part * BLOCK + l) != 0;
                }
                if (x >= width)
                    continue;
                bool is_first = y % BLOCK == 0 && x % BLOCK == 0;
                counts[x / BLOCK] = (is_first ? 0 : counts[x / BLOCK]) + found;
            }
        }
        if (y % BLOCK != BLOCK - 1 && y + 1 != height)
            continue;
        for (unsigned i = 0; i < columns; i++) {
#pragma HLS PIPELINE II = 1
            out.write(counts[i]);
        }
    }
}

extern "C" void score(const Word *mask, Word *grid, unsigned width, unsigned height,
                      unsigned stride)
{
#pragma HLS INTERFACE m_axi port = mask bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = grid bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    Numbers counts("counts");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = counts depth = 64
#pragma HLS STREAM variable = out depth = 64
    unsigned blocks = ((width + BLOCK - 1) / BLOCK) * ((height + BLOCK - 1) / BLOCK);
    read_rows(mask, in, 0, width, height, stride);
    count(in, counts, width, height);
    pack<4>(counts, out, blocks);
    write_rows(out, grid, 0, 4 * blocks, 1, 0);
}
