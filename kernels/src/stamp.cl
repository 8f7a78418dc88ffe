FN uchar overlay_of(uchar value, uchar sample, uint opacity)
{
    return (uchar)((value * opacity + sample * (255 - opacity) + 127) / 255);
}

// One group per row of the mask.
KERNEL void stamp(GLOBAL const uchar *restrict mask, GLOBAL uchar *restrict dst, uint mask_width,
                  uint mask_height, uint offset, uint stride, uint step, uint width, uint height,
                  int x, int y, uint halvings, uint value)
{
    uint mask_y = ROW;
    if (mask_y >= mask_height)
        return;
    int full_y = y + (int)mask_y, odd = (1 << halvings) - 1;
    int py = full_y >> halvings;
    if ((full_y & odd) != 0 || py < 0 || py >= (int)height)
        return;
    COLUMNS(mask_x, mask_width) {
        int full_x = x + (int)mask_x;
        int px = full_x >> halvings;
        if ((full_x & odd) != 0 || px < 0 || px >= (int)width)
            continue;
        GLOBAL uchar *to = dst + offset + (size_t)py * stride + (size_t)px * step;
        uint opacity = mask[(size_t)mask_y * mask_width + mask_x];
        *to = overlay_of((uchar)value, *to, opacity);
    }
}

// One group per row.
KERNEL void overlay(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint src_offset,
                    uint src_stride, uint dst_offset, uint dst_stride, uint width, uint height,
                    uint opacity)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + src_offset + (size_t)y * src_stride;
    GLOBAL uchar *to = dst + dst_offset + (size_t)y * dst_stride;
    COLUMNS(x, width)
        to[x] = overlay_of(from[x], to[x], opacity);
}

// One group per row.
KERNEL void overlay_alpha(GLOBAL const uchar *restrict src, GLOBAL const uchar *restrict alpha,
                          GLOBAL uchar *restrict dst, uint src_offset, uint src_stride,
                          uint alpha_stride, uint dst_offset, uint dst_stride, uint width,
                          uint height, uint bytes, uint halvings, uint opacity)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + src_offset + (size_t)y * src_stride;
    GLOBAL const uchar *alphas = alpha + (size_t)(y << halvings) * alpha_stride + 3;
    GLOBAL uchar *to = dst + dst_offset + (size_t)y * dst_stride;
    COLUMNS(x, width) {
        uint seen = (alphas[4 * (x << halvings)] * opacity + 127) / 255;
        for (uint i = 0; i < bytes; i++) {
            uint at = x * bytes + i;
            to[at] = overlay_of(i == 3 ? (uchar)255 : from[at], to[at], seen);
        }
    }
}
