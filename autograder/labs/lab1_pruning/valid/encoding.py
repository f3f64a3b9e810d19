"""Right relative indices, Huffman codes that break ties otherwise, streams written bit by bit."""

from __future__ import annotations

from autograder.proof.mutants import valid

RELATIVE_INDEX = valid(
    "encode",
    "solution_relative_index",
    one_run_after_another="""
        def relative_index(codes, bits=4):
            reach = 2**bits - 1
            gaps, values, run = [], [], 0
            for code in codes.tolist():
                if code == 0:
                    run += 1
                    continue
                while run > reach:
                    gaps.append(reach)
                    values.append(0)
                    run -= reach + 1
                gaps.append(run)
                values.append(code)
                run = 0
            return torch.tensor(gaps, dtype=torch.long), torch.tensor(values, dtype=torch.long)
        """,
    division_of_each_run="""
        def relative_index(codes, bits=4):
            places = torch.nonzero(codes)[:, 0]
            runs = torch.diff(places, prepend=torch.tensor([-1])) - 1
            padding, rest = runs // 2**bits, runs % 2**bits
            ends = (padding + 1).cumsum(0) - 1
            size = int(ends[-1]) + 1 if len(ends) else 0
            gaps = torch.full((size,), 2**bits - 1)
            values = torch.zeros(size, dtype=torch.int64)
            gaps[ends], values[ends] = rest, codes[places]
            return gaps, values
        """,
    numpy="""
        def relative_index(codes, bits=4):
            array = codes.numpy()
            last, gaps, values = -1, [], []
            for place in np.flatnonzero(array):
                padding, gap = divmod(int(place) - last - 1, 2**bits)
                gaps += [2**bits - 1] * padding + [gap]
                values += [0] * padding + [int(array[place])]
                last = int(place)
            return tuple(torch.from_numpy(np.array(x, dtype=np.int64)) for x in (gaps, values))
        """,
)

LENGTHS = valid(
    "encode",
    "solution_huffman_lengths",
    depths_of_a_tree="""
        def huffman_lengths(counts):
            lengths = [0] * len(counts)
            forest = [(int(c), s) for s, c in enumerate(counts) if c > 0]
            if len(forest) == 1:
                lengths[forest[0][1]] = 1
                return torch.tensor(lengths)
            while len(forest) > 1:
                forest.sort(key=lambda tree: tree[0], reverse=True)
                (a, left), (b, right) = forest.pop(), forest.pop()
                forest.append((a + b, (left, right)))
            stack = [(tree, 0) for _, tree in forest]
            while stack:
                node, depth = stack.pop()
                if isinstance(node, tuple):
                    stack += [(node[0], depth + 1), (node[1], depth + 1)]
                else:
                    lengths[node] = depth
            return torch.tensor(lengths)
        """,
    two_queues="""
        from collections import deque


        def huffman_lengths(counts):
            lengths = torch.zeros(len(counts), dtype=torch.long)
            order = counts.argsort(stable=True)
            leaves = deque((int(counts[s]), [int(s)]) for s in order if counts[s] > 0)
            merged = deque()

            def smallest():
                if not merged or (leaves and leaves[0][0] < merged[0][0]):
                    return leaves.popleft()
                return merged.popleft()

            if len(leaves) == 1:
                lengths[leaves[0][1]] = 1
            while len(leaves) + len(merged) > 1:
                (a, left), (b, right) = smallest(), smallest()
                lengths[left + right] += 1
                merged.append((a + b, left + right))
            return lengths
        """,
    parents_in_an_array="""
        def huffman_lengths(counts):
            size = len(counts)
            weight = counts.tolist()
            parent = {}
            alive = [i for i in range(size) if weight[i]]
            if len(alive) == 1:
                parent[alive[0]] = size
            while len(alive) > 1:
                pair = sorted(alive, key=lambda i: (weight[i], -i))[:2]
                weight.append(weight[pair[0]] + weight[pair[1]])
                alive = [i for i in alive if i not in pair] + [len(weight) - 1]
                for i in pair:
                    parent[i] = len(weight) - 1

            def depth(i):
                return 1 + depth(parent[i]) if i in parent else 0

            return torch.tensor([depth(i) for i in range(size)], dtype=torch.int64)
        """,
)

STREAM = valid(
    "encode",
    bits_as_text="""
        def encode(codes, bits=4):
            pair = relative_index(codes, bits)
            sizes = (2**bits, int(codes.max()) + 1)
            lengths = [
                huffman_lengths(torch.bincount(symbols, minlength=size))
                for symbols, size in zip(pair, sizes)
            ]
            words = [
                [f"{int(c):0{int(n)}b}" if n else "" for c, n in zip(huffman.canonical_codes(l), l)]
                for l in lengths
            ]
            text = "".join(words[0][g] + words[1][v] for g, v in zip(*(s.tolist() for s in pair)))
            text += "0" * (-len(text) % 8)
            stream = [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]
            return {
                "stream": torch.tensor(stream, dtype=torch.uint8),
                "entries": torch.tensor([len(pair[0])], dtype=torch.int32),
                "gap_lengths": lengths[0].to(torch.uint8),
                "value_lengths": lengths[1].to(torch.uint8),
            }
        """,
    one_interleaved_sequence="""
        def encode(codes, bits=4):
            gaps, values = relative_index(codes, bits)
            gap_lengths = huffman_lengths(torch.bincount(gaps, minlength=2**bits))
            value_lengths = huffman_lengths(torch.bincount(values, minlength=int(codes.max()) + 1))
            words = torch.empty(2 * len(gaps), dtype=torch.long)
            sizes = torch.empty(2 * len(gaps), dtype=torch.long)
            words[0::2] = huffman.canonical_codes(gap_lengths)[gaps]
            words[1::2] = huffman.canonical_codes(value_lengths)[values]
            sizes[0::2], sizes[1::2] = gap_lengths[gaps], value_lengths[values]
            return dict(
                entries=torch.tensor([gaps.numel()]).int(),
                gap_lengths=gap_lengths.byte(),
                value_lengths=value_lengths.byte(),
                stream=huffman.write_bits(words, sizes),
            )
        """,
    numpy_packbits="""
        def encode(codes, bits=4):
            gaps, values = (symbols.numpy() for symbols in relative_index(codes, bits))
            stored = {"entries": torch.tensor([gaps.size], dtype=torch.int32)}
            tables = []
            for name, symbols, size in (
                ("gap", gaps, 2**bits),
                ("value", values, int(codes.max()) + 1),
            ):
                counts = np.bincount(symbols, minlength=size).astype(np.int64)
                lengths = huffman_lengths(torch.from_numpy(counts))
                stored[name + "_lengths"] = lengths.type(torch.uint8)
                tables.append((huffman.canonical_codes(lengths).tolist(), lengths.tolist()))
            sequence = []
            for pair in zip(gaps, values):
                for symbol, (words, lengths) in zip(pair, tables):
                    for place in reversed(range(lengths[symbol])):
                        sequence.append(words[symbol] >> place & 1)
            packed = np.packbits(np.array(sequence, dtype=np.uint8))
            return {**stored, "stream": torch.from_numpy(packed)}
        """,
)

VALID = [*RELATIVE_INDEX, *LENGTHS, *STREAM]
