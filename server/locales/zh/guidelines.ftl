guidelines-title = 标注指南
guidelines-version = 第 { $n } 版
guidelines-edit = 撰写新版本
guidelines-save = 发布为新版本
guidelines-none = 还没有任何项目的标注指南。
