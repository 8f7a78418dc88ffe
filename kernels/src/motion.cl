// One item per block of 16 x 16.
KERNEL void motion(GLOBAL const uchar *restrict now, GLOBAL const uchar *restrict before,
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
    uint best = 0xFFFFFFFFu;
    int best_x = 0, best_y = 0;
    for (int dy = first_y; dy <= last_y; dy++) {
        for (int dx = first_x; dx <= last_x; dx++) {
            uint sum = 0;
            for (int y = 0; y < high; y++) {
                GLOBAL const uchar *a = now + (size_t)(top + y) * now_stride + left;
                GLOBAL const uchar *b =
                    before + (size_t)(top + dy + y) * before_stride + left + dx;
                for (int x = 0; x < wide; x++)
                    sum += a[x] > b[x] ? a[x] - b[x] : b[x] - a[x];
            }
            uint way = (dx < 0 ? -dx : dx) + (dy < 0 ? -dy : dy);
            uint cost = sum << 8 | way;
            if (cost < best) {
                best = cost;
                best_x = dx;
                best_y = dy;
            }
        }
    }
    to[4 * item] = (uchar)(best_x & 255);
    to[4 * item + 1] = (uchar)(best_y & 255);
    to[4 * item + 2] = (uchar)(best >> 8 & 255);
    to[4 * item + 3] = (uchar)(best >> 16 & 255);
}
