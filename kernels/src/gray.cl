// One group per row.
KERNEL void gray(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                 uint height, uint src_stride, uint dst_stride, uint limited)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + (size_t)y * src_stride;
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    if (!limited) {
        COLUMNS(x, width)
            to[x] = from[x];
        return;
    }
    COLUMNS(x, width) {
        ushort above_black = MIN(MAX(from[x], (uchar)16), (uchar)235) - 16;
        to[x] = (uchar)((ushort)(above_black * 255 + 109) / (ushort)219);
    }
}
