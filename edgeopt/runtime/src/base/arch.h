/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What this code was built for, as targets name it. */
#ifndef EO_ARCH_H
#define EO_ARCH_H

#if defined(__aarch64__)
#define EO_ARCH "aarch64"
#elif defined(__x86_64__)
#define EO_ARCH "x86_64"
#elif defined(__arm__)
#define EO_ARCH "armv7"
#else
#error "edgeopt_rt is built for aarch64, armv7 and x86_64"
#endif

#endif
