// A median is found bit by bit: the largest value that at most half of the samples are below.
FN uchar median_of(GLOBAL const uchar *src, uint x, uint y, uint width, uint height,
                   uint channels, uint stride, uint side)
{
    int pixel = x / channels, channel = x % channels, radius = side / 2;
    uchar samples[25];
    uint count = 0;
    for (int dy = -radius; dy <= radius; dy++) {
        int row = MIN(MAX((int)y + dy, 0), (int)height - 1);
        for (int dx = -radius; dx <= radius; dx++) {
            int column = MIN(MAX(pixel + dx, 0), (int)width - 1);
            samples[count++] = src[(size_t)row * stride + (size_t)column * channels + channel];
        }
    }
    uint found = 0;
    for (uint bit = 128; bit > 0; bit /= 2) {
        uint below = 0;
        for (uint i = 0; i < count; i++)
            below += samples[i] < found + bit;
        if (below <= side * side / 2)
            found += bit;
    }
    return (uchar)found;
}

// One group per row.
KERNEL void median(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                   uint height, uint channels, uint offset, uint src_stride, uint dst_stride,
                   uint side)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL uchar *to = dst + offset + (size_t)y * dst_stride;
    GLOBAL const uchar *from = src + offset;
    uint row_samples = width * channels, reach = side / 2 * channels;
    SPANS(x, row_samples) {
#if SPAN > 1
        // What lies this far from both ends has all its neighbours.
        if (x >= reach && x + SPAN + reach <= row_samples) {
            uchar samples[25][SPAN], found[SPAN], below[SPAN], limit[SPAN];
            uint count = 0;
            for (uint j = 0; j < side; j++) {
                int row = MIN(MAX((int)(y + j) - (int)(side / 2), 0), (int)height - 1);
                GLOBAL const uchar *first = from + (size_t)row * src_stride + x - reach;
                for (uint i = 0; i < side; i++, count++)
                    for (uint s = 0; s < SPAN; s++)
                        samples[count][s] = first[i * channels + s];
            }
            for (uint s = 0; s < SPAN; s++)
                found[s] = 0;
            for (uint bit = 128; bit > 0; bit /= 2) {
                for (uint s = 0; s < SPAN; s++) {
                    limit[s] = (uchar)(found[s] + bit);
                    below[s] = 0;
                }
                for (uint i = 0; i < count; i++)
                    for (uint s = 0; s < SPAN; s++)
                        below[s] += samples[i][s] < limit[s];
                for (uint s = 0; s < SPAN; s++)
                    found[s] = below[s] <= side * side / 2 ? limit[s] : found[s];
            }
            for (uint s = 0; s < SPAN; s++)
                to[x + s] = found[s];
            continue;
        }
#endif
        uint end = MIN(x + SPAN, row_samples);
        for (uint s = x; s < end; s++)
            to[s] = median_of(from, s, y, width, height, channels, src_stride, side);
    }
}
