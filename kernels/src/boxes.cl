// One work-item per luma row, then one per chroma row.
#define RECTS_MAX 256u

// The parts of luma row y on the outline of a clipped rectangle: [x, y) and [z, w).
typedef struct {
    uint x, y, z, w;
} Spans;

FN Spans spans(uint left, uint top, uint right, uint bottom, uint y, uint thickness)
{
    Spans found = {0, 0, 0, 0};
    if (y < top || y >= bottom || thickness == 0)
        return found;
    uint side = MIN(thickness, right - left);
    int is_edge = y - top < thickness || bottom - 1 - y < thickness;
    found.x = left;
    found.y = is_edge ? right : left + side;
    found.z = is_edge ? 0 : right - side;
    found.w = is_edge ? 0 : right;
    return found;
}

FN void fill_luma(GLOBAL uchar *row, uint from, uint to, uchar luma)
{
    for (uint x = from; x < to; x++)
        row[x] = luma;
}

FN void fill_chroma(GLOBAL uchar *row, uint from, uint to, uchar cb, uchar cr)
{
    if (from >= to)
        return;
    for (uint x = from / 2; x < (to + 1) / 2; x++) {
        row[2 * x] = cb;
        row[2 * x + 1] = cr;
    }
}

KERNEL void boxes(GLOBAL const uint *restrict rects, GLOBAL uchar *restrict frame, uint width,
                  uint height, uint stride, uint chroma_offset, uint chroma_stride,
                  uint thickness, uint luma, uint cb, uint cr)
{
    uint item = ITEM;
    if (item >= height + (height + 1) / 2)
        return;
    uint count = MIN(rects[0], RECTS_MAX);
    for (uint i = 0; i < count; i++) {
        uint left = rects[1 + 4 * i], top = rects[2 + 4 * i];
        uint wide = rects[3 + 4 * i], high = rects[4 + 4 * i];
        if (left >= width || top >= height || wide == 0 || high == 0)
            continue;
        uint right = left + MIN(wide, width - left);
        uint bottom = top + MIN(high, height - top);
        if (item < height) {
            Spans span = spans(left, top, right, bottom, item, thickness);
            GLOBAL uchar *row = frame + (size_t)item * stride;
            fill_luma(row, span.x, span.y, luma);
            fill_luma(row, span.z, span.w, luma);
            continue;
        }
        uint y = item - height;
        GLOBAL uchar *row = frame + chroma_offset + (size_t)y * chroma_stride;
        for (uint lower = 0; lower < 2; lower++) {
            Spans span = spans(left, top, right, bottom, 2 * y + lower, thickness);
            fill_chroma(row, span.x, span.y, cb, cr);
            fill_chroma(row, span.z, span.w, cb, cr);
        }
    }
}
