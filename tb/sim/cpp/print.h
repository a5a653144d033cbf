/* SPDX-License-Identifier: Apache-2.0 */
/* What the runtime prints with, so that the text of a failed assertion can be part of an error message. */
#ifdef __cplusplus
extern "C"
#endif
int nncosim_printf(const char* format, ...) __attribute__((format(printf, 1, 2)));
