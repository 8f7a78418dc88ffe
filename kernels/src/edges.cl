// One group per row.
KERNEL void sobel(PLANE, GLOBAL uchar *restrict dst, uint width, uint height, uint src_stride,
                  uint dst_stride)
{
    uint y = ROW;
    if (y >= height)
        return;
    uint above = mirrored((int)y - 1, height), below = mirrored((int)y + 1, height);
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    COLUMNS(x, width) {
        uint l = x == 0 ? mirrored(-1, width) : x - 1;
        uint r = x + 1 == width ? mirrored(width, width) : x + 1;
        int a = AT(l, above), b = AT(x, above), c = AT(r, above);
        int d = AT(l, y), e = AT(r, y);
        int f = AT(l, below), g = AT(x, below), h = AT(r, below);
        int gx = c + 2 * e + h - a - 2 * d - f;
        int gy = f + 2 * g + h - a - 2 * b - c;
        int sum = (gx < 0 ? -gx : gx) + (gy < 0 ? -gy : gy);
        to[x] = (uchar)MIN(sum, 255);
    }
}

KERNEL void filter2d(GLOBAL const int *restrict factors, PLANE, GLOBAL uchar *restrict dst,
                     uint width, uint height, uint channels, uint offset, uint src_stride,
                     uint dst_stride, uint side, uint shift, int bias, uint absolute)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL uchar *to = dst + offset + (size_t)y * dst_stride;
    int radius = side / 2;
    COLUMNS(x, width * channels) {
        int pixel = x / channels, channel = x % channels, sum = 0;
        for (int dy = -radius; dy <= radius; dy++) {
            int row = mirrored((int)y + dy, height);
            for (int dx = -radius; dx <= radius; dx++) {
                int column = mirrored(pixel + dx, width) * (int)channels + channel;
                sum += factors[(dy + radius) * (int)side + dx + radius] *
                       AT(offset + column, row);
            }
        }
        int value = ((sum + ((1 << shift) >> 1)) >> shift) + bias;
        to[x] = BYTE(absolute && value < 0 ? -value : value);
    }
}
