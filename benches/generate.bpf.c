// SPDX-License-Identifier: GPL-2.0
// A packet generator: run with BPF_PROG_TEST_RUN on live frames, it sends each one out of an interface.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

// Set by the loader.
volatile const __u32 generator_interface = 0;

SEC("xdp")
int generate(struct xdp_md *context)
{
	(void)context;
	return bpf_redirect(generator_interface, 0);
}

char licence_text[] SEC("license") = "GPL";
