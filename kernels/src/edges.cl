// One group per row.
KERNEL void sobel(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                  uint height, uint src_stride, uint dst_stride)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *above = src + (size_t)mirrored((int)y - 1, height) * src_stride;
    GLOBAL const uchar *here = src + (size_t)y * src_stride;
    GLOBAL const uchar *below = src + (size_t)mirrored((int)y + 1, height) * src_stride;
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    COLUMNS(x, width) {
        uint l = x == 0 ? mirrored(-1, width) : x - 1;
        uint r = x + 1 == width ? mirrored(width, width) : x + 1;
        int gx = above[r] + 2 * here[r] + below[r] - above[l] - 2 * here[l] - below[l];
        int gy = below[l] + 2 * below[x] + below[r] - above[l] - 2 * above[x] - above[r];
        int sum = (gx < 0 ? -gx : gx) + (gy < 0 ? -gy : gy);
        to[x] = (uchar)MIN(sum, 255);
    }
}

KERNEL void filter2d(GLOBAL const int *restrict factors, GLOBAL const uchar *restrict src,
                     GLOBAL uchar *restrict dst, uint width, uint height, uint channels,
                     uint offset, uint src_stride, uint dst_stride, uint side, uint shift,
                     int bias, uint absolute)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL uchar *to = dst + offset + (size_t)y * dst_stride;
    int radius = side / 2;
    COLUMNS(x, width * channels) {
        int pixel = x / channels, channel = x % channels, sum = 0;
        for (int dy = -radius; dy <= radius; dy++) {
            GLOBAL const uchar *row =
                src + offset + (size_t)mirrored((int)y + dy, height) * src_stride;
            for (int dx = -radius; dx <= radius; dx++)
                sum += factors[(dy + radius) * (int)side + dx + radius] *
                       row[mirrored(pixel + dx, width) * (int)channels + channel];
        }
        int value = ((sum + ((1 << shift) >> 1)) >> shift) + bias;
        to[x] = BYTE(absolute && value < 0 ? -value : value);
    }
}
