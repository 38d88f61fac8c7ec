guidelines-title = 标注指南
guidelines-version = 第 { $n } 版
guidelines-edit = 撰写新版本
guidelines-save = 发布为新版本
guidelines-none = 还没有任何项目的标注指南。
guidelines-acknowledge = 我已阅读，并将据此判断
guidelines-acknowledge-why = 您的每条标注都会注明所依据的版本。
guidelines-acknowledged = 您已确认第 { $n } 版。
