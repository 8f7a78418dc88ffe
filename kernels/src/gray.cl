// Luma of limited range in full range.
FN uchar expanded_of(uchar luma)
{
    ushort above_black = MIN(MAX(luma, (uchar)16), (uchar)235) - 16;
    return (uchar)((ushort)(above_black * 255 + 109) / (ushort)219);
}

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
    COLUMNS(x, width)
        to[x] = expanded_of(from[x]);
}
