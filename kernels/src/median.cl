// One group per row. The median is found bit by bit: the largest value that at most half of the
// samples are below.
KERNEL void median(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                   uint height, uint channels, uint offset, uint src_stride, uint dst_stride,
                   uint side)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL uchar *to = dst + offset + (size_t)y * dst_stride;
    int radius = side / 2;
    uint half_count = side * side / 2;
    COLUMNS(x, width * channels) {
        int pixel = x / channels, channel = x % channels;
        uchar samples[25];
        uint count = 0;
        for (int dy = -radius; dy <= radius; dy++) {
            int row = MIN(MAX((int)y + dy, 0), (int)height - 1);
            for (int dx = -radius; dx <= radius; dx++) {
                int column = MIN(MAX(pixel + dx, 0), (int)width - 1);
                samples[count++] = src[offset + (size_t)row * src_stride +
                                       (size_t)column * channels + channel];
            }
        }
        uint found = 0;
        for (uint bit = 128; bit > 0; bit /= 2) {
            uint below = 0;
            for (uint i = 0; i < count; i++)
                below += samples[i] < found + bit;
            if (below <= half_count)
                found += bit;
        }
        to[x] = (uchar)found;
    }
}
