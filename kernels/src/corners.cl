// One group per row.
KERNEL void corners(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                    uint height, uint src_stride, uint dst_stride, uint shift)
{
    uint y = ROW;
    if (y >= height)
        return;
    COLUMNS(x, width) {
        int xx = 0, yy = 0, xy = 0;
        for (int dy = -1; dy <= 1; dy++) {
            int py = mirrored((int)y + dy, height);
            GLOBAL const uchar *above = src + (size_t)mirrored(py - 1, height) * src_stride;
            GLOBAL const uchar *own = src + (size_t)py * src_stride;
            GLOBAL const uchar *below = src + (size_t)mirrored(py + 1, height) * src_stride;
            for (int dx = -1; dx <= 1; dx++) {
                int px = mirrored((int)x + dx, width);
                int left = mirrored(px - 1, width), right = mirrored(px + 1, width);
                int gx = above[right] + 2 * own[right] + below[right] - above[left] -
                         2 * own[left] - below[left];
                int gy = below[left] + 2 * below[px] + below[right] - above[left] -
                         2 * above[px] - above[right];
                xx += gx * gx;
                yy += gy * gy;
                xy += gx * gy;
            }
        }
        int a = xx >> 8, b = yy >> 8, c = xy >> 8, trace = (a + b) >> 2;
        dst[(size_t)y * dst_stride + x] = BYTE((a * b - c * c - trace * trace) >> shift);
    }
}
