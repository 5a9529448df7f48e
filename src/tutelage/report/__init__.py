"""The report of a run: sentences for the terminal, one self-contained page, and Markdown.

answer               results -> the answer in plain sentences
sanity_checks        whether the students learned more than a trivial answer gives
run_files            a run folder -> its results and compact tables of its other files
baseline_table, costs, curve_section, diagnostic_sections, explanation_section
                     the content of single sections
rows                 the test rows and predictions -> two compressed blocks for the page
figures              results -> SVG that follows the reader's light or dark theme
page                 everything -> report.html and report.md, from templates/
compare_runs         two run folders -> the differences between them, paired where possible
terms, wording, units, markdown
                     definitions; numbers, units and names as text
"""
