// One group per row of the result.
KERNEL void half_size(PLANE, GLOBAL uchar *restrict dst, uint width, uint height, uint src_stride,
                      uint dst_stride)
{
    uint y = ROW;
    if (y >= (height + 1) / 2)
        return;
    uint upper = 2 * y, lower = MIN(2 * y + 1, height - 1);
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    uint pairs = width / 2;
    COLUMNS(x, pairs) {
        ushort sum = AT(2 * x, upper) + AT(2 * x + 1, upper) + AT(2 * x, lower) +
                     AT(2 * x + 1, lower);
        to[x] = (uchar)((ushort)(sum + 2) >> 2);
    }
    if ((width & 1) && LANE == 0) {
        ushort sum = 2 * (AT(width - 1, upper) + AT(width - 1, lower));
        to[pairs] = (uchar)((ushort)(sum + 2) >> 2);
    }
}
