#define RECTS_MAX 256u

// Whether the samples from (left, top) up to (right, bottom) of a plane touch a rectangle.
FN int touches(GLOBAL const uint *rects, uint width, uint height, uint halvings, uint left,
               uint top, uint right, uint bottom)
{
    uint count = MIN(rects[0], RECTS_MAX);
    ulong round = (1 << halvings) - 1;
    for (uint i = 0; i < count; i++) {
        ulong x = rects[1 + 4 * i], y = rects[2 + 4 * i];
        ulong end_x = MIN((x + rects[3 + 4 * i] + round) >> halvings, (ulong)width);
        ulong end_y = MIN((y + rects[4 + 4 * i] + round) >> halvings, (ulong)height);
        if ((x + round) >> halvings < right && left < end_x &&
            (y + round) >> halvings < bottom && top < end_y && (x + round) >> halvings < end_x &&
            (y + round) >> halvings < end_y)
            return 1;
    }
    return 0;
}

// One item per cell.
KERNEL void mosaic(GLOBAL const uint *restrict rects, GLOBAL uchar *restrict plane, uint width,
                   uint height, uint channels, uint offset, uint stride, uint cell,
                   uint halvings)
{
    uint columns = (width + cell - 1) / cell, rows = (height + cell - 1) / cell, item = ITEM;
    if (item >= columns * rows)
        return;
    uint left = item % columns * cell, top = item / columns * cell;
    uint right = MIN(left + cell, width), bottom = MIN(top + cell, height);
    if (!touches(rects, width, height, halvings, left, top, right, bottom))
        return;
    uint count = (right - left) * (bottom - top);
    for (uint channel = 0; channel < channels; channel++) {
        uint sum = 0;
        for (uint y = top; y < bottom; y++)
            for (uint x = left; x < right; x++)
                sum += plane[offset + (size_t)y * stride + x * channels + channel];
        uchar mean = (uchar)((sum + count / 2) / count);
        for (uint y = top; y < bottom; y++)
            for (uint x = left; x < right; x++)
                plane[offset + (size_t)y * stride + x * channels + channel] = mean;
    }
}

// One group per row.
KERNEL void cover(GLOBAL const uint *restrict rects, GLOBAL const uchar *restrict src,
                  GLOBAL uchar *restrict plane, uint width, uint height, uint channels,
                  uint offset, uint stride, uint halvings)
{
    uint y = ROW;
    if (y >= height)
        return;
    COLUMNS(x, width) {
        if (!touches(rects, width, height, halvings, x, y, x + 1, y + 1))
            continue;
        size_t at = offset + (size_t)y * stride + x * channels;
        for (uint i = 0; i < channels; i++)
            plane[at + i] = src[at + i];
    }
}
