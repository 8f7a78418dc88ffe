// One group per row.
KERNEL void morph_across(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                         uint height, uint src_stride, uint dst_stride, uint radius,
                         uint largest)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + (size_t)y * src_stride;
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    COLUMNS(x, width) {
        uchar found = from[x];
        uint first = x < radius ? 0 : x - radius, last = MIN(x + radius, width - 1);
        for (uint i = first; i <= last; i++)
            found = largest ? MAX(found, from[i]) : MIN(found, from[i]);
        to[x] = found;
    }
}

KERNEL void morph_down(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                       uint height, uint src_stride, uint dst_stride, uint radius, uint largest)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    uint first = y < radius ? 0 : y - radius, last = MIN(y + radius, height - 1);
    COLUMNS(x, width) {
        uchar found = src[(size_t)y * src_stride + x];
        for (uint i = first; i <= last; i++) {
            uchar sample = src[(size_t)i * src_stride + x];
            found = largest ? MAX(found, sample) : MIN(found, sample);
        }
        to[x] = found;
    }
}
