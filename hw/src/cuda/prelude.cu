// What kernel sources use beside C++; opencl/prelude.cl has the same names.
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long long ulong;
#define KERNEL extern "C" __global__ __launch_bounds__(GROUP)
#define FN static __device__
#define TABLE __constant__
#define GLOBAL
#define restrict __restrict__
// The item, the row of a group, and the columns of a row shared by the items of its group.
#define ITEM (blockIdx.x * (uint)GROUP + threadIdx.x)
#define ROW blockIdx.x
#define LANE threadIdx.x
#define COLUMNS(x, count) for (uint x = LANE; x < (count); x += GROUP)
// Kernels that say SPANS are also compiled for items that do SPAN neighbours at once, from x on.
#ifndef SPAN
#define SPAN 1
#endif
#define SPANS(x, count) for (uint x = LANE * SPAN; x < (count); x += GROUP * SPAN)
// A plane that is read sample by sample. In a chain what stands before it may make the samples.
#define PLANE GLOBAL const uchar *restrict src
#define AT(x, y) src[(size_t)(y) * src_stride + (x)]
// Where the items of a group wait for each other.
#define BARRIER __syncthreads()
#define ATOMIC_ADD(to, value) atomicAdd(to, value)
#define ATOMIC_MIN(to, value) atomicMin(to, value)
#define ATOMIC_MAX(to, value) atomicMax(to, value)
#define BYTE(v) ((uchar)MIN(MAX((int)(v), 0), 255))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

// Sample i of n, mirrored at the ends without repeating the last one.
FN int mirrored(int i, int n)
{
    if (n == 1)
        return 0;
    int period = 2 * n - 2;
    i = (i < 0 ? -i : i) % period;
    return i < n ? i : period - i;
}
