// What a block costs at (dx, dy) off its place: the sum of differences, then the way.
FN uint motion_cost(GLOBAL const uchar *restrict now, GLOBAL const uchar *restrict before, int wide,
                    int high, uint now_stride, uint before_stride, int dx, int dy)
{
    uint sum = 0;
    for (int y = 0; y < high; y++) {
        for (int x = 0; x < wide; x++) {
            uint a = now[(size_t)y * now_stride + x], b = before[(size_t)y * before_stride + x];
            sum += a > b ? a - b : b - a;
        }
    }
    return sum << 8 | (uint)((dx < 0 ? -dx : dx) + (dy < 0 ? -dy : dy));
}

// One item per block of 16 x 16.
KERNEL void motion_diamond(GLOBAL const uchar *restrict now, GLOBAL const uchar *restrict before,
                           GLOBAL uchar *restrict to, uint width, uint height, uint now_stride,
                           uint before_stride, uint radius)
{
    uint columns = (width + 15) / 16, rows = (height + 15) / 16, item = ITEM;
    if (item >= columns * rows)
        return;
    int left = item % columns * 16, top = item / columns * 16;
    int wide = MIN(16, (int)width - left), high = MIN(16, (int)height - top);
    int first_x = -MIN((int)radius, left), first_y = -MIN((int)radius, top);
    int last_x = MIN((int)radius, (int)width - left - wide);
    int last_y = MIN((int)radius, (int)height - top - high);
    GLOBAL const uchar *block = now + (size_t)top * now_stride + left;
    GLOBAL const uchar *place = before + (size_t)top * before_stride + left;
    uint best = motion_cost(block, place, wide, high, now_stride, before_stride, 0, 0);
    int best_x = 0, best_y = 0, size = 2;
    uint steps = radius;
    for (;;) {
        int from_x = best_x, from_y = best_y;
        if (steps == 0)
            size = 1;
        for (int y = -size; y <= size; y++) {
            int reach = size - (y < 0 ? -y : y);
            for (int x = -reach; x <= reach; x += reach > 0 ? 2 * reach : 1) {
                int dx = from_x + x, dy = from_y + y;
                if (dx < first_x || dx > last_x || dy < first_y || dy > last_y)
                    continue;
                GLOBAL const uchar *at = before + (size_t)(top + dy) * before_stride + left + dx;
                uint cost = motion_cost(block, at, wide, high, now_stride, before_stride, dx, dy);
                if (cost < best) {
                    best = cost;
                    best_x = dx;
                    best_y = dy;
                }
            }
        }
        if (size == 1)
            break;
        steps = best_x == from_x && best_y == from_y ? 0 : steps - 1;
    }
    to[4 * item] = (uchar)(best_x & 255);
    to[4 * item + 1] = (uchar)(best_y & 255);
    to[4 * item + 2] = (uchar)(best >> 8 & 255);
    to[4 * item + 3] = (uchar)(best >> 16 & 255);
}
