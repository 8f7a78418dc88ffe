// The form of diamond.cl for FPGA cards: a row of a block at a place each clock.
#include "../motion.hpp"

static const unsigned FAR = 8, NEAR = 4;
// Two steps away, and one step, row by row.
static const signed char FAR_PLACES[FAR][2] = {{0, -2}, {-1, -1}, {1, -1}, {-2, 0},
                                               {2, 0},  {-1, 1},  {1, 1},  {0, 2}};
static const signed char NEAR_PLACES[NEAR][2] = {{0, -1}, {-1, 0}, {1, 0}, {0, 1}};

static void search(Words &blocks, Words &windows, Numbers &out, unsigned width, unsigned height,
                   unsigned radius)
{
    Search search;
#pragma HLS ARRAY_PARTITION variable = search.block.at complete dim = 2
#pragma HLS ARRAY_PARTITION variable = search.window.at complete dim = 2
    for (unsigned block = 0; block < blocks_of(width, height); block++) {
        Place p(block, width, height, radius);
        search.read(blocks, windows, p);
        Best best = {NONE, 0, 0};
        search.consider(p, 0, 0, best);
        bool is_better = true;
        for (unsigned step = 0; step < radius && is_better; step++) {
            Best from = best;
            for (unsigned i = 0; i < FAR; i++)
                search.consider(p, from.x + FAR_PLACES[i][0], from.y + FAR_PLACES[i][1], best);
            is_better = best.cost < from.cost;
        }
        Best from = best;
        for (unsigned i = 0; i < NEAR; i++)
            search.consider(p, from.x + NEAR_PLACES[i][0], from.y + NEAR_PLACES[i][1], best);
        out.write(best.record());
    }
}

extern "C" void motion_diamond(const Word *now, const Word *before, unsigned *motion,
                               unsigned width, unsigned height, unsigned now_stride,
                               unsigned before_stride, unsigned radius)
{
#pragma HLS INTERFACE m_axi port = now bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = before bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = motion bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = now_stride
#pragma HLS INTERFACE s_axilite port = before_stride
#pragma HLS INTERFACE s_axilite port = radius
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words blocks("blocks"), windows("windows");
    Numbers out("out");
// A whole window waits for its turn.
#pragma HLS STREAM variable = blocks depth = 64
#pragma HLS STREAM variable = windows depth = 1024
#pragma HLS STREAM variable = out depth = 64
    read_places(now, blocks, width, height, now_stride, 0);
    read_places(before, windows, width, height, before_stride, radius);
    search(blocks, windows, out, width, height, radius);
    write_numbers(out, motion, blocks_of(width, height));
}
