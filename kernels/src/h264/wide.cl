// The passes of the wide preset, a macroblock for each item (or group); wide.rs says what they do.
// Plain C but for the names of the preludes: wide.cpp takes this text as well.

// Numbers of a picture, words of `control`.
enum { INTRA, DEBLOCK, BIT, QP, CHROMA_QP, QUANTISER, CHROMA_QUANTISER = 15, EDGES = 25 };
// Of a quantiser, three of each, and one.
enum { FACTOR, BIAS = 3, STEP = 6, FIRST_STEP = 9 };
// Words of a level record.
enum { RECORD = 416, KIND = 0, LUMA_MODE, CHROMA_MODE, LUMA_MASK, CHROMA_MASK, FIRST_MASK };
enum { LUMA_FIRST = 8, LUMA = 24, CHROMA_FIRST = 280, CHROMA = 288, LEVEL_MAX = 2063 };
// Samples around a picture, and how many of them motion may reach.
enum { PAD = 32, OUTSIDE = 24, ACROSS_MAX = 2000, DOWN_MAX = 240 };

// Loops whose bodies are too long to be repeated.
#define ROLLED _Pragma("unroll 1")

TABLE uchar ZIGZAG[16] = {0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15};
// Blocks in coding order, by their places in rows.
TABLE uchar BLOCKS[16] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
// The kind of each place of a block, row by row.
TABLE uchar KINDS[16] = {0, 2, 0, 2, 2, 1, 2, 1, 0, 2, 0, 2, 2, 1, 2, 1};
// What a single level is worth by how many zeros stand before it.
TABLE uchar WORTH[16] = {3, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
// Which samples a prediction is the mean of, by quarters down and across: kind, one to the right,
// one down, of each.
TABLE uchar MEANS[96] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0,
    0, 0, 0, 2, 0, 0, 1, 0, 0, 2, 0, 0, 1, 0, 0, 3, 0, 0, 1, 0, 0, 2, 1, 0,
    2, 0, 0, 2, 0, 0, 2, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 0, 2, 1, 0,
    2, 0, 0, 0, 0, 1, 2, 0, 0, 1, 0, 1, 3, 0, 0, 1, 0, 1, 2, 1, 0, 1, 0, 1,
};

FN int within(int v, int least, int most)
{
    return v < least ? least : v > most ? most : v;
}

FN int apart(int a, int b)
{
    return a < b ? b - a : a - b;
}

FN int middle(int a, int b, int c)
{
    return MAX(MIN(a, b), MIN(MAX(a, b), c));
}

// Where a macroblock lies.
typedef struct {
    int width, height, columns, rows, column, row, stride;
    // Of a padded picture: its first sample of luma and of chroma.
    int luma, chroma;
    // Motion that stays near the picture.
    int left, right, top, bottom;
} Place;

FN Place place_of(int width, int height, int column, int row)
{
    Place p;
    p.width = width;
    p.height = height;
    p.columns = (width + 15) / 16;
    p.rows = (height + 15) / 16;
    p.column = column;
    p.row = row;
    p.stride = 16 * p.columns + 2 * PAD;
    int lines = 16 * row + PAD;
    p.luma = lines * p.stride + 16 * column + PAD;
    p.chroma = p.stride * (16 * p.rows + 2 * PAD) + lines / 2 * p.stride + 16 * column + PAD;
    p.left = MAX(-4 * (16 * column + OUTSIDE), -ACROSS_MAX);
    p.right = MIN(4 * (16 * (p.columns - column - 1) + OUTSIDE), ACROSS_MAX);
    p.top = MAX(-4 * (16 * row + OUTSIDE), -DOWN_MAX);
    p.bottom = MIN(4 * (16 * (p.rows - row - 1) + OUTSIDE), DOWN_MAX);
    return p;
}

// Luma of a frame, its last column and row repeated.
FN void read_luma(GLOBAL const uchar *frame, const Place *p, uchar *to)
{
    ROLLED
    for (int y = 0; y < 16; y++) {
        GLOBAL const uchar *line = frame + MIN(16 * p->row + y, p->height - 1) * p->width;
        for (int x = 0; x < 16; x++)
            to[16 * y + x] = line[MIN(16 * p->column + x, p->width - 1)];
    }
}

// Chroma, Cb and Cr by turns.
FN void read_chroma(GLOBAL const uchar *frame, const Place *p, uchar *to)
{
    int pairs = (p->width + 1) / 2, lines = (p->height + 1) / 2;
    GLOBAL const uchar *chroma = frame + p->width * p->height;
    ROLLED
    for (int y = 0; y < 8; y++) {
        GLOBAL const uchar *line = chroma + MIN(8 * p->row + y, lines - 1) * 2 * pairs;
        for (int x = 0; x < 16; x++)
            to[16 * y + x] = line[2 * MIN(8 * p->column + x / 2, pairs - 1) + x % 2];
    }
}

FN void store(const uchar *from, GLOBAL uchar *picture, int at, int stride, int lines)
{
    ROLLED
    for (int y = 0; y < lines; y++)
        for (int x = 0; x < 16; x++)
            picture[at + y * stride + x] = from[16 * y + x];
}

// What a half sample is made of.
FN int six(int a, int b, int c, int d, int e, int f)
{
    return a + f - 5 * (b + e) + 20 * (c + d);
}

// A block of whole samples (kind 0), halves to the right (1), below (2), or both (3).
FN void samples(GLOBAL const uchar *from, int stride, int kind, uchar *to)
{
    ROLLED
    for (int x = 0; x < 16; x++) {
        GLOBAL const uchar *at = from + x;
        int v[6] = {0, 0, 0, 0, 0, 0};
        for (int y = kind < 2 ? 0 : -2; y < (kind < 2 ? 16 : 19); y++) {
            GLOBAL const uchar *s = at + y * stride;
            int next = kind & 1 ? six(s[-2], s[-1], s[0], s[1], s[2], s[3]) : s[0];
            if (kind < 2) {
                to[16 * y + x] = kind ? BYTE((next + 16) >> 5) : (uchar)next;
                continue;
            }
            for (int i = 0; i < 5; i++)
                v[i] = v[i + 1];
            v[5] = next;
            int sum = six(v[0], v[1], v[2], v[3], v[4], v[5]);
            if (y >= 3)
                to[16 * (y - 3) + x] = kind == 2 ? BYTE((sum + 16) >> 5) : BYTE((sum + 512) >> 10);
        }
    }
}

FN void predict_luma(GLOBAL const uchar *reference, const Place *p, int mx, int my, uchar *to)
{
    GLOBAL const uchar *from = reference + p->luma + (mx >> 2) + (my >> 2) * p->stride;
    int of = 6 * (4 * (my & 3) + (mx & 3));
    int is_mean = 0;
    for (int i = 0; i < 3; i++)
        is_mean |= MEANS[of + i] != MEANS[of + 3 + i];
    uchar part[256];
    ROLLED
    for (int k = 0; k <= is_mean; k++) {
        int at = of + 3 * k;
        samples(from + MEANS[at + 1] + MEANS[at + 2] * p->stride, p->stride, MEANS[at], part);
        for (int i = 0; i < 256; i++)
            to[i] = k ? (uchar)((to[i] + part[i] + 1) >> 1) : part[i];
    }
}

FN void predict_chroma(GLOBAL const uchar *reference, const Place *p, int mx, int my, uchar *to)
{
    GLOBAL const uchar *from = reference + p->chroma + 2 * (mx >> 3) + (my >> 3) * p->stride;
    int right = mx & 7, down = my & 7;
    ROLLED
    for (int y = 0; y < 8; y++) {
        GLOBAL const uchar *s = from + y * p->stride;
        for (int x = 0; x < 16; x++) {
            int above = s[x] * (8 - right) + s[x + 2] * right;
            int below = s[x + p->stride] * (8 - right) + s[x + p->stride + 2] * right;
            to[16 * y + x] = (uchar)((above * (8 - down) + below * down + 32) >> 6);
        }
    }
}

FN int is_inside(const Place *p, int x, int y)
{
    return x >= p->left && x <= p->right && y >= p->top && y <= p->bottom;
}

// Bits of a signed number as the bitstream writes it.
FN int bits_of(int v)
{
    uint code = 2 * (uint)(v < 0 ? -v : v) - (v > 0 ? 1 : 0) + 1;
    int bits = 1;
    for (; code > 1; code >>= 1)
        bits += 2;
    return bits;
}

FN uint difference_at(const uchar *luma, GLOBAL const uchar *reference, const Place *p, int x,
                      int y)
{
    uint sum = 0;
    if (((x | y) & 3) == 0) {
        GLOBAL const uchar *from = reference + p->luma + (x >> 2) + (y >> 2) * p->stride;
        ROLLED
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++)
                sum += (uint)apart(luma[16 * i + j], from[i * p->stride + j]);
        return sum;
    }
    uchar predicted[256];
    predict_luma(reference, p, x, y, predicted);
    for (int i = 0; i < 256; i++)
        sum += (uint)apart(luma[i], predicted[i]);
    return sum;
}

// The least difference to predictions from the frame's own neighbours.
FN uint intra_difference(const uchar *luma, GLOBAL const uchar *frame, const Place *p)
{
    int is_inner = p->column > 0 && p->row > 0, sum = 0, above[16], left[16];
    for (int i = 0; i < 16; i++) {
        int x = MIN(16 * p->column + i, p->width - 1), y = MIN(16 * p->row + i, p->height - 1);
        above[i] = is_inner ? frame[(16 * p->row - 1) * p->width + x] : 64;
        left[i] = is_inner ? frame[y * p->width + 16 * p->column - 1] : 64;
        sum += above[i] + left[i];
    }
    int mean = is_inner ? (sum + 16) >> 5 : 128;
    uint flat = 0, down = 0, across = 0;
    for (int i = 0; i < 256; i++) {
        flat += (uint)apart(luma[i], mean);
        down += (uint)apart(luma[i], above[i % 16]);
        across += (uint)apart(luma[i], left[i / 16]);
    }
    return is_inner ? MIN(flat, MIN(down, across)) : flat;
}

// What is looked at, one after the other: what a skipped macroblock would be, the expected motion;
// then from none on those of the expected, the left and the same macroblock by whole samples, a
// walk by those, halves towards the better neighbours, quarters around.
enum { FIRST, EXPECTED, STANDS, ROUNDED, WALK = ROUNDED + 3, HALF = WALK + 4, QUARTER = HALF + 3 };
enum { DONE = QUARTER + 4, STEPS_MAX = 16 };

// `field` has x and y of each macroblock, a word that does not matter here, and whether it is
// predicted from its neighbours, without motion then. All items look at their candidates in one
// place, so that those of a group go together.
FN void search_one(GLOBAL const int *control, GLOBAL const uchar *frame,
                   GLOBAL const uchar *reference, GLOBAL const short *field, Place p,
                   GLOBAL short *to)
{
    to[0] = to[1] = to[2] = 0;
    to[3] = (short)(control[INTRA] != 0);
    if (control[INTRA])
        return;
    uchar luma[256];
    read_luma(frame, &p, luma);
    GLOBAL const short *own = field + 4 * (p.row * p.columns + p.column);
    int is_left = p.column > 0, is_above = p.row > 0;
    int is_right = is_above && p.column + 1 < p.columns;
    int is_corner = is_right || (is_above && is_left);
    GLOBAL const short *above = own - 4 * p.columns, *corner = is_right ? above + 4 : above - 4;
    int left_x = is_left ? own[-4] : 0, left_y = is_left ? own[-3] : 0;
    int above_x = is_above ? above[0] : 0, above_y = is_above ? above[1] : 0;
    int corner_x = is_corner ? corner[0] : 0, corner_y = is_corner ? corner[1] : 0;
    int left_moved = is_left && !(own[-1] & 255), above_moved = is_above && !(above[3] & 255);
    int corner_moved = is_corner && !(corner[3] & 255);
    int is_only = left_moved + above_moved + corner_moved == 1;
    int ex = is_only ? left_x + above_x + corner_x : middle(left_x, above_x, corner_x);
    int ey = is_only ? left_y + above_y + corner_y : middle(left_y, above_y, corner_y);
    int left_stands = left_moved && (left_x | left_y) == 0;
    int above_stands = above_moved && (above_x | above_y) == 0;
    int is_skipped =
        is_left && is_above && !left_stands && !above_stands && is_inside(&p, ex, ey);
    int first_x = is_skipped ? ex : 0, first_y = is_skipped ? ey : 0;
    uint enough = (uint)(256 + 64 * control[BIT]), none = 0xFFFFFFFFu;
    // The best of the walk, and of what came before it.
    int best_x = 0, best_y = 0, kept_x = 0, kept_y = 0;
    uint best = none, least = none, kept = none;
    // Where a step begins, and where the step before began.
    int base_x = 0, base_y = 0, came_x = 0, came_y = 0, steps = 0, way_x = 1, way_y = 1;
    uint base = none, came = none, other = none;
    int state = FIRST;
    ROLLED
    while (state < DONE) {
        int x = 0, y = 0, is_tried = 1, is_came = 0, i = state - WALK;
        if (state == FIRST) {
            x = first_x;
            y = first_y;
        } else if (state == EXPECTED) {
            x = ex;
            y = ey;
            is_tried = x != first_x || y != first_y;
        } else if (state >= ROUNDED && state < WALK) {
            x = state == ROUNDED ? ex : state == ROUNDED + 1 ? left_x : own[0];
            y = state == ROUNDED ? ey : state == ROUNDED + 1 ? left_y : own[1];
            x = (x + 2) >> 2 << 2;
            y = (y + 2) >> 2 << 2;
            is_tried = (state != ROUNDED + 1 || is_left) && (x != best_x || y != best_y);
        } else if (state >= WALK && state < HALF) {
            x = base_x + (i == 0 ? -4 : i == 1 ? 4 : 0);
            y = base_y + (i == 2 ? -4 : i == 3 ? 4 : 0);
            is_came = x == came_x && y == came_y;
            is_tried = !is_came;
        } else if (state >= HALF && state < QUARTER) {
            x = base_x + (state == HALF + 1 ? 0 : 2 * way_x);
            y = base_y + (state == HALF ? 0 : 2 * way_y);
            is_tried = state < HALF + 2 || best_x != base_x || best_y != base_y;
        } else if (state >= QUARTER) {
            x = base_x + (state == QUARTER + 1 ? -1 : state == QUARTER + 2 ? 1 : 0);
            y = base_y + (state == QUARTER ? -1 : state == QUARTER + 3 ? 1 : 0);
        }
        uint cost = is_came ? came : none;
        if (is_tried && is_inside(&p, x, y)) {
            uint difference = difference_at(luma, reference, &p, x, y);
            cost = difference + (uint)(control[BIT] * (bits_of(x - ex) + bits_of(y - ey)));
            if (state == FIRST || state == STANDS || cost < best) {
                best_x = x;
                best_y = y;
                best = cost;
                least = difference;
            }
        }
        int is_walked = 0;
        if (state < STANDS) {
            if (least <= enough)
                break;
            kept_x = best_x;
            kept_y = best_y;
            kept = best;
        } else if (state >= WALK && state < HALF) {
            int way = other < cost ? -1 : 1;
            way_x = i == 1 ? way : way_x;
            way_y = i == 3 ? way : way_y;
            other = cost;
            is_walked = i == 3;
        }
        if (state == WALK - 1 || is_walked) {
            int is_there = is_walked && best_x == base_x && best_y == base_y;
            if (is_walked && !is_there && steps == STEPS_MAX) {
                way_x = way_y = 1;
                is_there = 1;
            }
            // At the beginning of a walk no step was before.
            came_x = is_walked ? base_x : best_x;
            came_y = is_walked ? base_y : best_y;
            came = is_walked ? base : best;
            base_x = best_x;
            base_y = best_y;
            base = best;
            steps++;
            state = is_there ? HALF : WALK;
            if (is_there && least <= enough)
                break;
            continue;
        }
        if (state == QUARTER - 1) {
            if (least <= enough)
                break;
            base_x = best_x;
            base_y = best_y;
        }
        state++;
    }
    int is_kept = state >= STANDS && best >= kept;
    uint cost = is_kept ? kept : best;
    if (state != FIRST && cost > 1024 &&
        intra_difference(luma, frame, &p) + (uint)(12 * control[BIT]) < cost) {
        to[3] = 1;
        return;
    }
    to[0] = (short)(is_kept ? kept_x : best_x);
    to[1] = (short)(is_kept ? kept_y : best_y);
}

// Whether eight rows of eight bytes differ by no more than so many bits are worth.
FN int is_near(const uchar *a, const uchar *b, int each_most, int sum_most)
{
    int each = 0, sum = 0;
    ROLLED
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) {
            int d = a[16 * y + x] - b[16 * y + x];
            each += d < 0 ? -d : d;
            sum += d;
        }
    return each <= each_most && (sum < 0 ? -sum : sum) <= sum_most;
}

// The coefficients of a block of what differs; samples of a line are `step` bytes apart.
FN void forward(const uchar *given, const uchar *predicted, int step, int *c)
{
    for (int i = 0; i < 4; i++) {
        const uchar *a = given + 16 * i, *b = predicted + 16 * i;
        int v0 = a[0] - b[0], v1 = a[step] - b[step];
        int v2 = a[2 * step] - b[2 * step], v3 = a[3 * step] - b[3 * step];
        int s03 = v0 + v3, d03 = v0 - v3, s12 = v1 + v2, d12 = v1 - v2;
        c[4 * i] = s03 + s12;
        c[4 * i + 1] = 2 * d03 + d12;
        c[4 * i + 2] = s03 - s12;
        c[4 * i + 3] = d03 - 2 * d12;
    }
    for (int i = 0; i < 4; i++) {
        int s03 = c[i] + c[12 + i], d03 = c[i] - c[12 + i];
        int s12 = c[4 + i] + c[8 + i], d12 = c[4 + i] - c[8 + i];
        c[i] = s03 + s12;
        c[4 + i] = 2 * d03 + d12;
        c[8 + i] = s03 - s12;
        c[12 + i] = d03 - 2 * d12;
    }
}

// Adds the inverse to the prediction.
FN void restore(int *c, uchar *to, int step)
{
    for (int i = 0; i < 4; i++) {
        int *r = c + 4 * i;
        int e0 = r[0] + r[2], e1 = r[0] - r[2];
        int e2 = (r[1] >> 1) - r[3], e3 = r[1] + (r[3] >> 1);
        r[0] = e0 + e3;
        r[1] = e1 + e2;
        r[2] = e1 - e2;
        r[3] = e0 - e3;
    }
    for (int i = 0; i < 4; i++) {
        int e0 = c[i] + c[8 + i], e1 = c[i] - c[8 + i];
        int e2 = (c[4 + i] >> 1) - c[12 + i], e3 = c[4 + i] + (c[12 + i] >> 1);
        uchar *at = to + step * i;
        at[0] = BYTE(at[0] + ((e0 + e3 + 32) >> 6));
        at[16] = BYTE(at[16] + ((e1 + e2 + 32) >> 6));
        at[32] = BYTE(at[32] + ((e1 - e2 + 32) >> 6));
        at[48] = BYTE(at[48] + ((e0 - e3 + 32) >> 6));
    }
}

FN int level_of(int c, int factor, int bias, int shift)
{
    uint level = ((uint)((c < 0 ? -c : c) + bias) * (uint)factor) >> shift;
    int bounded = (int)MIN(level, (uint)LEVEL_MAX);
    return c < 0 ? -bounded : bounded;
}

FN int first_level(GLOBAL const int *q, int c)
{
    return level_of(c, q[FACTOR], 2 * q[BIAS], 17);
}

// Levels of a block in zigzag order, from one of them on; whether there are any.
FN int quantise(const int *c, GLOBAL const int *q, int first, short *levels)
{
    int any = 0;
    for (int k = 0; k < 16; k++) {
        int at = ZIGZAG[k], kind = KINDS[at];
        int level = k < first ? 0 : level_of(c[at], q[FACTOR + kind], q[BIAS + kind], 16);
        levels[k] = (short)level;
        any |= level;
    }
    return any != 0;
}

FN void scale(const short *levels, GLOBAL const int *q, int *c)
{
    for (int k = 0; k < 16; k++) {
        int at = ZIGZAG[k];
        c[at] = (short)(levels[k] * q[STEP + KINDS[at]]);
    }
}

FN int worth_of(const short *levels, int first)
{
    int worth = 0, run = 0;
    for (int k = first; k < 16; k++) {
        if (levels[k] > 1 || levels[k] < -1)
            return 9;
        worth += levels[k] ? WORTH[run] : 0;
        run = levels[k] ? 0 : run + 1;
    }
    return worth;
}

FN void put_levels(const short *levels, GLOBAL short *to)
{
    for (int k = 0; k < 16; k++)
        to[k] = levels[k];
}

// Chroma of a macroblock: `out` is the prediction before and the reconstruction after.
FN void code_chroma(GLOBAL const int *control, const uchar *given, uchar *out,
                    GLOBAL short *record)
{
    GLOBAL const int *q = control + CHROMA_QUANTISER;
    int mask = 0, first_mask = 0;
    ROLLED
    for (int plane = 0; plane < 2; plane++) {
        short levels[64];
        int dc[4], first[4], worth = 0, used = 0;
        for (int i = 0; i < 4; i++) {
            int c[16], at = 64 * (i / 2) + 8 * (i % 2) + plane;
            forward(given + at, out + at, 2, c);
            dc[i] = c[0];
            if (quantise(c, q, 1, levels + 16 * i)) {
                worth += worth_of(levels + 16 * i, 1);
                used |= 1 << i;
            }
        }
        first[0] = first_level(q, dc[0] + dc[1] + dc[2] + dc[3]);
        first[1] = first_level(q, dc[0] - dc[1] + dc[2] - dc[3]);
        first[2] = first_level(q, dc[0] + dc[1] - dc[2] - dc[3]);
        first[3] = first_level(q, dc[0] - dc[1] - dc[2] + dc[3]);
        used = worth >= 7 ? used : 0;
        mask |= used << (4 * plane);
        for (int i = 0; i < 4; i++) {
            record[CHROMA_FIRST + 4 * plane + i] = (short)first[i];
            first_mask |= first[i] ? 2 << plane : 0;
        }
        dc[0] = first[0] + first[1] + first[2] + first[3];
        dc[1] = first[0] - first[1] + first[2] - first[3];
        dc[2] = first[0] + first[1] - first[2] - first[3];
        dc[3] = first[0] - first[1] - first[2] + first[3];
        for (int i = 0; i < 4; i++) {
            int c[16];
            for (int k = 0; k < 16; k++)
                c[k] = 0;
            if (used >> i & 1) {
                put_levels(levels + 16 * i, record + CHROMA + 16 * (4 * plane + i));
                scale(levels + 16 * i, q, c);
            }
            c[0] = (short)(((dc[i] * q[FIRST_STEP]) << (control[CHROMA_QP] / 6)) >> 1);
            // A block of nothing leaves the prediction as it is.
            uchar *to = out + 64 * (i / 2) + 8 * (i % 2) + plane;
            restore(c, to, 2);
        }
    }
    record[CHROMA_MASK] = (short)mask;
    record[FIRST_MASK] = (short)(record[FIRST_MASK] | first_mask);
}

// Luma of a macroblock that moved; the blocks that have levels, row by row.
FN int code_luma(GLOBAL const int *control, const uchar *given, uchar *out, GLOBAL short *record)
{
    GLOBAL const int *q = control + QUANTISER;
    short levels[256];
    int c[16], mask = 0, total = 0, worth[4] = {0, 0, 0, 0}, rows = 0;
    ROLLED
    for (int coded = 0; coded < 16; coded++) {
        int at = 64 * (BLOCKS[coded] / 4) + 4 * (BLOCKS[coded] % 4);
        forward(given + at, out + at, 1, c);
        if (quantise(c, q, 0, levels + 16 * coded)) {
            worth[coded / 4] += worth_of(levels + 16 * coded, 0);
            mask |= 1 << coded;
        }
    }
    for (int quarter = 0; quarter < 4; quarter++)
        total += worth[quarter];
    ROLLED
    for (int coded = 0; coded < 16; coded++) {
        if (total < 6 || worth[coded / 4] < 4)
            mask &= ~(1 << coded);
        if (!(mask >> coded & 1))
            continue;
        put_levels(levels + 16 * coded, record + LUMA + 16 * coded);
        scale(levels + 16 * coded, q, c);
        restore(c, out + 64 * (BLOCKS[coded] / 4) + 4 * (BLOCKS[coded] % 4), 1);
        rows |= 1 << BLOCKS[coded];
    }
    record[LUMA_MASK] = (short)mask;
    return rows;
}

FN void clear(GLOBAL short *record)
{
    for (int i = 0; i < RECORD; i++)
        record[i] = 0;
}

// Chroma is predicted twice, and all share two arrays: of several in use at once, NVRTC 13.0 laid
// two over each other.
FN void code_one(GLOBAL const int *control, GLOBAL const uchar *frame,
                 GLOBAL const uchar *reference, GLOBAL short *own, Place p,
                 GLOBAL uchar *picture, GLOBAL short *record)
{
    uchar given[256], out[256];
    int mx = within(own[0], p.left, p.right), my = within(own[1], p.top, p.bottom);
    int bit = control[BIT], near = 1, used = 0;
    read_chroma(frame, &p, given);
    predict_chroma(reference, &p, mx, my, out);
    for (int i = 0; i < 2; i++)
        near = near && is_near(given + 8 * i, out + 8 * i, 50 * bit, 50 * bit);
    read_luma(frame, &p, given);
    predict_luma(reference, &p, mx, my, out);
    for (int i = 0; i < 4; i++) {
        int at = 128 * (i / 2) + 8 * (i % 2);
        near = near && is_near(given + at, out + at, 70 * bit, 40 * bit);
    }
    clear(record);
    if (!near)
        used = code_luma(control, given, out, record);
    store(out, picture, p.luma, p.stride, 16);
    predict_chroma(reference, &p, mx, my, out);
    if (!near) {
        read_chroma(frame, &p, given);
        code_chroma(control, given, out, record);
    }
    store(out, picture, p.chroma, p.stride, 8);
    own[0] = (short)mx;
    own[1] = (short)my;
    own[2] = (short)used;
    own[3] = 0;
}

FN uint difference_of(const uchar *a, const uchar *b, int count)
{
    uint sum = 0;
    for (int i = 0; i < count; i++)
        sum += (uint)apart(a[i], b[i]);
    return sum;
}

// Predictions of luma by neighbours: down, across, their mean, a plane.
FN void luma_by(int mode, GLOBAL const uchar *from, const Place *p, uchar *to)
{
    int stride = p->stride, a = 0, b = 0, c = 0;
    GLOBAL const uchar *above = from - stride;
    if (mode == 2) {
        int is_above = p->row > 0, is_left = p->column > 0, sum = 0;
        for (int i = 0; i < 16; i++)
            sum += (is_above ? above[i] : 0) + (is_left ? from[i * stride - 1] : 0);
        a = is_above && is_left ? (sum + 16) >> 5 : is_above || is_left ? (sum + 8) >> 4 : 128;
    }
    if (mode == 3) {
        for (int i = 0; i < 8; i++) {
            b += (i + 1) * (above[8 + i] - above[6 - i]);
            c += (i + 1) * (from[(8 + i) * stride - 1] - from[(6 - i) * stride - 1]);
        }
        b = (5 * b + 32) >> 6;
        c = (5 * c + 32) >> 6;
        a = 16 * (above[15] + from[15 * stride - 1]);
    }
    ROLLED
    for (int y = 0; y < 16; y++)
        for (int x = 0; x < 16; x++) {
            int v = a;
            if (mode == 0)
                v = above[x];
            if (mode == 1)
                v = from[y * stride - 1];
            if (mode == 3)
                v = BYTE((a + b * (x - 7) + c * (y - 7) + 16) >> 5);
            to[16 * y + x] = (uchar)v;
        }
}

// Predictions of chroma: means of corners, across, down.
FN void chroma_by(int mode, GLOBAL const uchar *from, const Place *p, uchar *to)
{
    int stride = p->stride, is_above = p->row > 0, is_left = p->column > 0, means[8];
    GLOBAL const uchar *above = from - stride;
    for (int i = 0; i < 8; i++) {
        int down = i / 4, right = i / 2 % 2, plane = i % 2, up = 0, side = 0;
        for (int k = 0; mode == 0 && k < 4; k++) {
            up += is_above ? above[8 * right + 2 * k + plane] : 0;
            side += is_left ? from[(4 * down + k) * stride - 2 + plane] : 0;
        }
        int is_up = is_above && !(is_left && down > right);
        int is_side = is_left && !(is_above && right > down);
        int both = (up + side + 4) >> 3, one = ((is_up ? up : side) + 2) >> 2;
        means[i] = is_up && is_side ? both : is_up || is_side ? one : 128;
    }
    ROLLED
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 16; x++) {
            int v = means[y / 4 * 4 + x / 8 * 2 + x % 2];
            if (mode == 1)
                v = from[y * stride - 2 + x % 2];
            if (mode == 2)
                v = above[x];
            to[16 * y + x] = (uchar)v;
        }
}

// The second transform, of first coefficients in rows of four.
FN void hadamard(int *d)
{
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < 4; i++) {
            int *v = d + (pass ? i : 4 * i), step = pass ? 4 : 1;
            int a = v[0], b = v[step], c = v[2 * step], e = v[3 * step];
            v[0] = a + b + c + e;
            v[step] = a + b - c - e;
            v[2 * step] = a - b - c + e;
            v[3 * step] = a - b + c - e;
        }
}

FN void code_intra_luma(GLOBAL const int *control, const uchar *given, uchar *out,
                        GLOBAL short *record)
{
    GLOBAL const int *q = control + QUANTISER;
    short levels[256];
    int c[16], first[16], mask = 0, any = 0;
    ROLLED
    for (int block = 0; block < 16; block++) {
        int at = 64 * (block / 4) + 4 * (block % 4);
        forward(given + at, out + at, 1, c);
        first[block] = c[0];
        mask |= quantise(c, q, 1, levels + 16 * block) << block;
    }
    hadamard(first);
    for (int i = 0; i < 16; i++) {
        first[i] = first_level(q, first[i] >> 1);
        any |= first[i];
    }
    int coded_mask = 0;
    for (int k = 0; k < 16; k++) {
        record[LUMA_FIRST + k] = (short)first[ZIGZAG[k]];
        if (mask >> BLOCKS[k] & 1) {
            coded_mask |= 1 << k;
            put_levels(levels + 16 * BLOCKS[k], record + LUMA + 16 * k);
        }
    }
    record[LUMA_MASK] = (short)coded_mask;
    record[FIRST_MASK] = (short)(any != 0);
    hadamard(first);
    int up = control[QP] / 6, step = q[FIRST_STEP];
    ROLLED
    for (int block = 0; block < 16; block++) {
        int f = first[block] * step;
        scale(levels + 16 * block, q, c);
        c[0] = (short)(up == 0 ? (f + 2) >> 2 : up == 1 ? (f + 1) >> 1 : f << (up - 2));
        restore(c, out + 64 * (block / 4) + 4 * (block % 4), 1);
    }
}

FN void intra_one(GLOBAL const int *control, GLOBAL const uchar *frame, Place p,
                  GLOBAL uchar *picture, GLOBAL short *record)
{
    uchar given[256], best[256], tried[256];
    int is_above = p.row > 0, is_left = p.column > 0, mode = 2, chroma_mode = 0;
    uint least = 0xFFFFFFFFu;
    clear(record);
    read_luma(frame, &p, given);
    ROLLED
    for (int i = 0; i < 4; i++) {
        // The mean first.
        int next = i == 0 ? 2 : i == 3 ? 3 : i - 1;
        if (next != 2 && ((next != 1 && !is_above) || (next != 0 && !is_left)))
            continue;
        luma_by(next, picture + p.luma, &p, tried);
        uint difference = difference_of(given, tried, 256);
        if (difference < least) {
            least = difference;
            mode = next;
            for (int k = 0; k < 256; k++)
                best[k] = tried[k];
        }
    }
    code_intra_luma(control, given, best, record);
    store(best, picture, p.luma, p.stride, 16);
    read_chroma(frame, &p, given);
    least = 0xFFFFFFFFu;
    ROLLED
    for (int next = 0; next < 3; next++) {
        if ((next == 1 && !is_left) || (next == 2 && !is_above))
            continue;
        chroma_by(next, picture + p.chroma, &p, tried);
        uint difference = difference_of(given, tried, 128);
        if (difference < least) {
            least = difference;
            chroma_mode = next;
            for (int k = 0; k < 128; k++)
                best[k] = tried[k];
        }
    }
    record[KIND] = 1;
    record[LUMA_MODE] = (short)mode;
    record[CHROMA_MODE] = (short)chroma_mode;
    code_chroma(control, given, best, record);
    store(best, picture, p.chroma, p.stride, 8);
}

// The strength of an edge of a macroblock at one of four blocks: edges 0 to 3 go down, 4 to 7
// across. `own` is its motion record.
FN int strength_of(GLOBAL const short *own, const Place *p, int edge, int block)
{
    int across = edge / 4, number = edge % 4;
    int at = across ? 4 * number + block : 4 * block + number;
    if (number > 0) {
        if (own[3] & 255)
            return 3;
        return (own[2] >> at & 1) | (own[2] >> (across ? at - 4 : at - 1) & 1) ? 2 : 0;
    }
    if ((across ? p->row : p->column) == 0)
        return 0;
    GLOBAL const short *there = own - 4 * (across ? p->columns : 1);
    if ((own[3] | there[3]) & 255)
        return 4;
    if ((own[2] >> at & 1) | (there[2] >> (across ? at + 12 : at + 3) & 1))
        return 2;
    return apart(own[0], there[0]) >= 4 || apart(own[1], there[1]) >= 4;
}

// One line of samples over an edge, `step` bytes apart; `at` is the first one behind it.
FN void filter_line(GLOBAL uchar *at, int step, GLOBAL const int *t, int strength, int is_luma)
{
    int alpha = t[0], beta = t[1];
    int p1 = at[-2 * step], p0 = at[-step], q0 = at[0], q1 = at[step];
    if (apart(p0, q0) >= alpha || apart(p1, p0) >= beta || apart(q1, q0) >= beta)
        return;
    if (!is_luma && strength == 4) {
        at[-step] = (uchar)((2 * p1 + p0 + q1 + 2) >> 2);
        at[0] = (uchar)((2 * q1 + q0 + p1 + 2) >> 2);
        return;
    }
    int p2 = is_luma ? at[-3 * step] : 0, q2 = is_luma ? at[2 * step] : 0;
    int near_p = is_luma && apart(p2, p0) < beta, near_q = is_luma && apart(q2, q0) < beta;
    if (strength == 4) {
        int p3 = at[-4 * step], q3 = at[3 * step];
        int is_flat = apart(p0, q0) < (alpha >> 2) + 2;
        if (is_flat && near_p) {
            at[-step] = (uchar)((p2 + 2 * p1 + 2 * p0 + 2 * q0 + q1 + 4) >> 3);
            at[-2 * step] = (uchar)((p2 + p1 + p0 + q0 + 2) >> 2);
            at[-3 * step] = (uchar)((2 * p3 + 3 * p2 + p1 + p0 + q0 + 4) >> 3);
        } else {
            at[-step] = (uchar)((2 * p1 + p0 + q1 + 2) >> 2);
        }
        if (is_flat && near_q) {
            at[0] = (uchar)((q2 + 2 * q1 + 2 * q0 + 2 * p0 + p1 + 4) >> 3);
            at[step] = (uchar)((q2 + q1 + q0 + p0 + 2) >> 2);
            at[2 * step] = (uchar)((2 * q3 + 3 * q2 + q1 + q0 + p0 + 4) >> 3);
        } else {
            at[0] = (uchar)((2 * q1 + q0 + p1 + 2) >> 2);
        }
        return;
    }
    int bound = t[1 + strength], most = is_luma ? bound + near_p + near_q : bound + 1;
    int move = within((4 * (q0 - p0) + p1 - q1 + 4) >> 3, -most, most);
    int mean = (p0 + q0 + 1) >> 1;
    at[-step] = BYTE(p0 + move);
    at[0] = BYTE(q0 - move);
    if (near_p)
        at[-2 * step] = (uchar)(p1 + within((p2 + mean - 2 * p1) >> 1, -bound, bound));
    if (near_q)
        at[step] = (uchar)(q1 + within((q2 + mean - 2 * q1) >> 1, -bound, bound));
}

// Line i of an edge: sixteen of luma, then eight of Cb and of Cr by turns, which has every second.
FN void filter(GLOBAL const int *control, GLOBAL uchar *picture, GLOBAL const short *own,
               const Place *p, int edge, int i)
{
    int across = edge / 4, number = edge % 4, is_luma = i < 16, k = is_luma ? i : i - 16;
    if (!is_luma && number % 2)
        return;
    int strength = strength_of(own, p, edge, k / 4);
    if (strength == 0)
        return;
    GLOBAL const int *t = control + EDGES + (is_luma ? 0 : 5);
    if (is_luma) {
        int at = across ? 4 * number * p->stride + k : k * p->stride + 4 * number;
        filter_line(picture + p->luma + at, across ? p->stride : 1, t, strength, 1);
    } else {
        int at = across ? 2 * number * p->stride + k : k / 2 * p->stride + 4 * number + k % 2;
        filter_line(picture + p->chroma + at, across ? p->stride : 2, t, strength, 0);
    }
}

KERNEL void h264_search(GLOBAL const int *restrict control, GLOBAL const uchar *restrict frame,
                        GLOBAL const uchar *restrict reference,
                        GLOBAL const short *restrict before, GLOBAL short *restrict after,
                        uint width, uint height)
{
    int columns = ((int)width + 15) / 16, at = (int)ITEM;
    if (at >= columns * (((int)height + 15) / 16))
        return;
    Place p = place_of((int)width, (int)height, at % columns, at / columns);
    search_one(control, frame, reference, before, p, after + 4 * at);
}

KERNEL void h264_code(GLOBAL const int *restrict control, GLOBAL const uchar *restrict frame,
                      GLOBAL const uchar *restrict reference, GLOBAL short *restrict field,
                      GLOBAL uchar *restrict picture, GLOBAL short *restrict levels, uint width,
                      uint height)
{
    int columns = ((int)width + 15) / 16, at = (int)ITEM;
    if (at >= columns * (((int)height + 15) / 16) || (field[4 * at + 3] & 255))
        return;
    Place p = place_of((int)width, (int)height, at % columns, at / columns);
    code_one(control, frame, reference, field + 4 * at, p, picture, levels + RECORD * at);
}

// A group for each row to predict, then one for each to filter, whose items share the lines.
KERNEL void h264_diagonal(GLOBAL const int *restrict control, GLOBAL const uchar *restrict frame,
                          GLOBAL const short *restrict field, GLOBAL uchar *restrict picture,
                          GLOBAL short *restrict levels, uint width, uint height, uint number)
{
    int rows = ((int)height + 15) / 16, columns = ((int)width + 15) / 16;
    int is_filter = (int)ROW >= rows, row = (int)ROW - (is_filter ? rows : 0);
    int column = (int)number - 2 * row - (is_filter ? 4 : 0);
    int is_there = row < rows && column >= 0 && column < columns;
    Place p = place_of((int)width, (int)height, column, row);
    int at = row * columns + column;
    if (is_there && !is_filter && (field[4 * at + 3] & 255) && LANE == 0)
        intra_one(control, frame, p, picture, levels + RECORD * at);
    int is_on = is_there && is_filter && control[DEBLOCK];
    ROLLED
    for (int edge = 0; edge < 8; edge++) {
        if (is_on) {
            COLUMNS(i, 32)
                filter(control, picture, field + 4 * at, &p, edge, (int)i);
        }
        BARRIER;
    }
}

// A group for each row of luma, then of chroma.
KERNEL void h264_pad(GLOBAL uchar *restrict picture, uint width, uint height)
{
    int columns = ((int)width + 15) / 16, rows = ((int)height + 15) / 16;
    int stride = 16 * columns + 2 * PAD, lines = 16 * rows + 2 * PAD, y = (int)ROW;
    if (y >= lines + lines / 2)
        return;
    int is_chroma = y >= lines, bytes = is_chroma ? 2 : 1, above = PAD / bytes;
    GLOBAL uchar *plane = picture + (is_chroma ? lines * stride : 0);
    y -= is_chroma ? lines : 0;
    int inner = within(y, above, above + 16 * rows / bytes - 1), last = PAD + 16 * columns - bytes;
    GLOBAL uchar *to = plane + y * stride;
    GLOBAL const uchar *from = plane + inner * stride;
    COLUMNS(x, (uint)stride) {
        int at = (int)x, side = at % bytes;
        if (at < PAD)
            at = PAD + side;
        else if (at >= last + bytes)
            at = last + side;
        if (at != (int)x || inner != y)
            to[x] = from[at];
    }
}
