// The forms of integral.cl for FPGA cards: a sum each clock, or every second one.
#include "numbers.hpp"

static void sum_rows(Numbers &in, Numbers &out, unsigned width, unsigned height)
{
    for (unsigned y = 0; y <= height; y++) {
        unsigned sum = 0;
        for (unsigned x = 0; x <= width; x++) {
#pragma HLS PIPELINE II = 1
            if (x > 0 && y > 0)
                sum += in.read();
            out.write(sum);
        }
    }
}

extern "C" void integral_rows(const Word *src, unsigned *dst, unsigned width, unsigned height,
                              unsigned stride)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in");
    Numbers samples("samples"), sums("sums");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = samples depth = 64
#pragma HLS STREAM variable = sums depth = 64
    read_rows(src, in, 0, width, height, stride);
    unpack_rows(in, samples, width, height);
    sum_rows(samples, sums, width, height);
    write_numbers(sums, dst, (width + 1) * (height + 1));
}

// One port reads and writes, so that a row goes there and back before the next one comes.
extern "C" void integral_columns(unsigned *sums, unsigned width, unsigned height)
{
#pragma HLS INTERFACE m_axi port = sums bundle = gmem0 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = return
    unsigned line[SIDE_MAX + 2];
    for (unsigned y = 0; y <= height; y++) {
        unsigned *row = sums + y * (width + 1);
        for (unsigned x = 0; x <= width; x++) {
#pragma HLS PIPELINE II = 1
            line[x] = (y == 0 ? 0 : line[x]) + row[x];
        }
        for (unsigned x = 0; x <= width; x++) {
#pragma HLS PIPELINE II = 1
            row[x] = line[x];
        }
    }
}
