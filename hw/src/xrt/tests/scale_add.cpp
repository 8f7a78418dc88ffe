// The kernel of the suite for devices, as HLS would have it.
#include <ap_int.h>

extern "C" void scale_add(const ap_uint<8> *src, ap_uint<8> *dst, unsigned count, unsigned factor)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = count
#pragma HLS INTERFACE s_axilite port = factor
#pragma HLS INTERFACE s_axilite port = return
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        dst[i] = (unsigned char)(unsigned(src[i]) * factor + i);
    }
}
