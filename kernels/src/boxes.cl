// One work-item per row of the plane.
#define RECTS_MAX 256u

// The parts of row y of the frame on the outline of a clipped rectangle: [x, y) and [z, w).
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

// The pixels that samples [from, to) of the frame are in.
FN void fill(GLOBAL uchar *row, uint from, uint to, uint bytes, uint halvings, uint colour)
{
    if (from >= to)
        return;
    uint end = ((to + (1u << halvings) - 1) >> halvings) * bytes;
    for (uint at = (from >> halvings) * bytes; at < end; at += bytes)
        for (uint i = 0; i < bytes; i++)
            row[at + i] = (uchar)(colour >> (8 * i));
}

KERNEL void boxes(GLOBAL const uint *restrict rects, GLOBAL uchar *restrict plane, uint width,
                  uint height, uint offset, uint stride, uint bytes, uint halvings,
                  uint thickness, uint colour)
{
    uint item = ITEM, odd = (1u << halvings) - 1;
    if (item >= (height + odd) >> halvings)
        return;
    GLOBAL uchar *row = plane + offset + (size_t)item * stride;
    uint count = MIN(rects[0], RECTS_MAX);
    for (uint i = 0; i < count; i++) {
        uint left = rects[1 + 4 * i], top = rects[2 + 4 * i];
        uint wide = rects[3 + 4 * i], high = rects[4 + 4 * i];
        if (left >= width || top >= height || wide == 0 || high == 0)
            continue;
        uint right = left + MIN(wide, width - left);
        uint bottom = top + MIN(high, height - top);
        for (uint lower = 0; lower <= odd; lower++) {
            Spans span = spans(left, top, right, bottom, (item << halvings) + lower, thickness);
            fill(row, span.x, span.y, bytes, halvings, colour);
            fill(row, span.z, span.w, bytes, halvings, colour);
        }
    }
}
